"""A learner's chat page: the folder's `app.py` (FastAPI, by uvicorn) in front of an OpenAI-compatible service."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import process

TIMEOUT_S = 120


@dataclass(frozen=True)
class Reply:
    """An answer of `/api/chat`: its pieces, when each came (seconds since asking), and what went wrong if anything."""

    pieces: tuple[str, ...] = ()
    times_s: tuple[float, ...] = ()
    seconds: float = 0.0
    done: bool = False
    error: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@contextmanager
def serve(folder: Path, upstream: str, model: str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The page's address while the block runs. UserError with the log's end when it does not come up."""
    if not (folder / "app.py").is_file():
        raise UserError("there is no app.py", where=str(folder), remedy="it must define `app`, a FastAPI application")
    port = process.free_port()
    address = f"http://{process.LOOPBACK}:{port}"
    argv = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(folder), "--host", process.LOOPBACK]
    argv += ["--port", str(port), "--log-level", "warning"]
    given = {"OPENAI_BASE_URL": f"{upstream}/v1", "OPENAI_API_KEY": "none", "MODEL": model, **(env or {})}
    with process.serve(argv, log=log, ready=lambda: bool(page(address)), env=given, cwd=folder, timeout_s=60):
        yield address


def page(address: str) -> str:
    with urlopen(f"{address}/", timeout=5) as answer:
        text: str = answer.read().decode("utf-8", errors="replace")
        return text


def asked(messages: Sequence[Mapping[str, str]], max_tokens: int) -> bytes:
    return json.dumps({"messages": [*messages], "max_tokens": max_tokens}).encode()


def ask(address: str, messages: Sequence[Mapping[str, str]], max_tokens: int = 64) -> Iterator[dict[str, Any]]:
    """The events of one answer, as they come."""
    body = asked(messages, max_tokens)
    request = Request(f"{address}/api/chat", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=TIMEOUT_S) as answer:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


@dataclass
class Gathering:
    """Puts a reply together from its events."""

    began: float = field(default_factory=time.perf_counter)
    pieces: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    done: bool = False
    error: str = ""

    def take(self, event: Mapping[str, Any]) -> None:
        if event.get("text"):
            self.pieces.append(event["text"])
            self.times.append(time.perf_counter() - self.began)
        self.done = self.done or bool(event.get("done"))
        self.error = str(event.get("error", self.error))

    def reply(self) -> Reply:
        seconds = time.perf_counter() - self.began
        return Reply(tuple(self.pieces), tuple(self.times), seconds, self.done, self.error)
