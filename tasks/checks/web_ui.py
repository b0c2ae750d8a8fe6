"""A chat page: started before a scripted model, it must show a page, stream, keep the talk, and tell of a failure."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tasks import api
from tasks.services import process, web_ui
from tasks.services.web_ui import Gathering

PIECES = ("one ", "two ", "three")
WAIT_S = 15
PARTS = {
    "an element with id question": r"""id=["']?question\b""",
    "an element with id send": r"""id=["']?send\b""",
    "answers with data-done": r"data-done|dataset\.done",
    "a call of /api/chat": r"/api/chat",
}
TALK = (
    {"role": "user", "content": "first question"},
    {"role": "assistant", "content": "first answer"},
    {"role": "user", "content": "second question"},
)


class Params(api.Params): ...


class Model(BaseHTTPRequestHandler):
    """An OpenAI-compatible model that says PIECES, the last one only when `seen` is set or WAIT_S have passed."""

    seen: threading.Event
    asked: list[dict[str, Any]]
    fails: bool

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        if self.fails:
            self.answer(500, "application/json", b'{"error": {"message": "the scripted model is out of order"}}')
        elif body.get("stream"):
            self.stream()
        else:
            said = {"choices": [{"index": 0, "finish_reason": "stop", "message": spoken("".join(PIECES))}]}
            self.answer(200, "application/json", json.dumps({**common("chat.completion"), **said}).encode())

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in PIECES:
            if piece == PIECES[-1]:
                self.seen.wait(WAIT_S)
            part = {"choices": [{"index": 0, "finish_reason": None, "delta": spoken(piece)}]}
            self.wfile.write(f"data: {json.dumps({**common('chat.completion.chunk'), **part})}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: Any) -> None:
        """Nothing: the checker's log is for the page."""


def common(kind: str) -> dict[str, Any]:
    return {"id": "scripted", "object": kind, "created": 1, "model": "scripted"}


def spoken(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="uvicorn", environment="serving", memory_gb=0.5)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    if not file.is_dir():
        return api.Verdict(False, f"there is no folder {file.name}")
    with scripted() as (model, upstream):
        try:
            with web_ui.serve(file, upstream, "scripted", work.scratch / "app.log") as address:
                fault = lacking(address) or unstreamed(address, model) or silent(address, model)
        except (api.UserError, OSError, ValueError) as error:
            fault = str(error)
    if fault:
        return api.Verdict(False, fault)
    return api.Verdict(True, "the page is there; answers are streamed, with the talk so far; a failure is told")


@contextmanager
def scripted() -> Iterator[tuple[type[Model], str]]:
    """The scripted model on a port of its own: its state, and its address."""

    class Scripted(Model):
        seen, asked, fails = threading.Event(), [], False

    model = Scripted
    with ThreadingHTTPServer((process.LOOPBACK, 0), model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield model, f"http://{process.LOOPBACK}:{server.server_address[1]}"
        finally:
            model.seen.set()
            server.shutdown()


def lacking(address: str) -> str:
    """What the page must have and has not."""
    text = web_ui.page(address)
    absent = [what for what, pattern in PARTS.items() if not re.search(pattern, text)]
    return f"the page has not {', '.join(absent)}" if absent else ""


def unstreamed(address: str, model: type[Model]) -> str:
    """Whether the first piece reaches the user while the model still speaks, and the whole in the end."""
    gathering, early = Gathering(), False
    for event in web_ui.ask(address, TALK):
        gathering.take(event)
        early = early or 0 < len("".join(gathering.pieces)) < len("".join(PIECES))
        model.seen.set()
    reply = gathering.reply()
    if reply.error or not reply.done or reply.text != "".join(PIECES):
        return f"the answer is {reply.text!r} {reply.error} (done={reply.done}); the model says {''.join(PIECES)!r}"
    if reply.times_s[0] > WAIT_S / 2 or not early:
        return "the answer is not streamed: nothing came before the model had said all of it"
    given = model.asked[-1].get("messages", []) if model.asked else []
    if [turn.get("content") for turn in given][-3:] != [turn["content"] for turn in TALK]:
        return "the model was not given the whole talk"
    return ""


def silent(address: str, model: type[Model]) -> str:
    """Whether a user is told when the model fails."""
    model.fails = True
    events = list(web_ui.ask(address, TALK[-1:]))
    return "" if any(event.get("error") for event in events) else "the model failed, and the user is told nothing"
