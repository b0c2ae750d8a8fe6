"""The OpenAI API in front of an engine in this process: completions and chat, plain and streamed, tokens counted."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.services.llm.jobs import Engine, Job

UNFINISHED = "\ufffd"  # what a character that is not all there yet decodes to


@dataclass(eq=False)
class Front:
    """`tokenizer` is the model's own (tokenizers); `limit` the longest prompt and answer together, in tokens."""

    engine: Engine
    tokenizer: Any
    eos: frozenset[int]
    model: Path
    name: str
    limit: int

    def application(self) -> Any:
        from aiohttp import web

        app = web.Application(client_max_size=2**26)
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/v1/models", self.models),
                web.post("/v1/completions", self.completions),
                web.post("/v1/chat/completions", self.chat),
            ]
        )
        return app

    async def health(self, _: Any) -> Any:
        from aiohttp import web

        return web.Response(text="ok")

    async def models(self, _: Any) -> Any:
        from aiohttp import web

        return web.json_response({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    async def completions(self, request: Any) -> Any:
        asked = await request.json()
        prompt = asked["prompt"]
        ids = self.tokenizer.encode(prompt).ids if isinstance(prompt, str) else [int(token) for token in prompt]
        return await self.answer(request, asked, ids, chat=False)

    async def chat(self, request: Any) -> Any:
        asked = await request.json()
        text = self.template.apply_chat_template(asked["messages"], tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return await self.answer(request, asked, ids, chat=True)

    @functools.cached_property
    def template(self) -> Any:
        """transformers knows how to render chat templates; it takes seconds to load and completions do without it."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model)

    async def answer(self, request: Any, asked: dict[str, Any], ids: list[int], *, chat: bool) -> Any:
        from aiohttp import web

        most = int(asked.get("max_tokens") or asked.get("max_completion_tokens") or 16)
        if not ids or len(ids) + most > self.limit:
            said = f"a prompt of {len(ids)} tokens and {most} more do not fit in {self.limit}"
            return web.json_response({"error": {"message": said, "type": "invalid_request_error"}}, status=400)
        reply = Reply(self, asked, len(ids), chat)
        job = Job(
            ids, most, frozenset() if asked.get("ignore_eos") else self.eos, float(asked.get("temperature") or 0.0),
            reply.receiver(),
        )  # fmt: skip
        self.engine.submit(job)
        if not asked.get("stream"):
            async for _ in reply.pieces():
                pass
            if reply.error:
                return web.json_response({"error": {"message": reply.error}}, status=500)
            return web.json_response(reply.whole())
        return await streamed(request, reply)


async def streamed(request: Any, reply: Reply) -> Any:
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for text, ids in reply.pieces():
        await response.write(b"data: " + json.dumps(reply.chunk(text, ids)).encode() + b"\n\n")
    if reply.error:
        await response.write(b"data: " + json.dumps({"error": {"message": reply.error}}).encode() + b"\n\n")
    if (reply.asked.get("stream_options") or {}).get("include_usage"):
        last = {**reply.head(), "choices": [], "usage": reply.usage()}
        await response.write(b"data: " + json.dumps(last).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


@dataclass
class Reply:
    """An answer as it grows."""

    front: Front
    asked: dict[str, Any]
    prompt_tokens: int
    chat: bool
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""
    error: str = ""
    counted: int = 0
    arrived: asyncio.Queue[tuple[Sequence[int], str]] = field(default_factory=asyncio.Queue)

    def receiver(self) -> Any:
        loop = asyncio.get_running_loop()
        return lambda ids, finish: loop.call_soon_threadsafe(self.arrived.put_nowait, (ids, finish))

    async def pieces(self) -> AsyncIterator[tuple[str, Sequence[int]]]:
        """New text and its tokens until the end; a character that is not all there yet waits for its other bytes."""
        while not self.finish:
            ids, self.finish = await self.arrived.get()
            self.ids += ids
            if self.finish.startswith("error: "):
                self.error = self.finish.removeprefix("error: ")
            whole = self.front.tokenizer.decode(self.ids, skip_special_tokens=True)
            new = "" if whole.endswith(UNFINISHED) and not self.finish else whole[len(self.text) :]
            self.text += new
            yield new, ids

    def head(self) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        return {"id": f"cmpl-{id(self)}", "object": kind, "created": int(time.time()), "model": self.front.name}

    def usage(self) -> dict[str, int]:
        """As vLLM counts: the end-of-sequence token is one of the completion's tokens."""
        made = len(self.ids) + (self.finish == "stop")
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self.prompt_tokens + made,
        }

    def chunk(self, text: str, ids: Sequence[int]) -> dict[str, Any]:
        said = {"delta": {"content": text}} if self.chat else {"text": text}
        choice: dict[str, Any] = {"index": 0, **said, "finish_reason": self.finish or None}
        if self.asked.get("return_token_ids"):
            choice["token_ids"] = list(ids)
        return {**self.head(), "choices": [choice]}

    def whole(self) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": self.text}} if self.chat else {"text": self.text}
        choice: dict[str, Any] = {"index": 0, **said, "finish_reason": self.finish}
        if self.asked.get("return_token_ids"):
            choice["token_ids"] = self.ids
        return {**self.head(), "choices": [choice], "usage": self.usage()}


def run(engine: Engine, model: Path, name: str, port: int, limit: int) -> None:
    """Serve until SIGTERM."""
    from aiohttp import web
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    front = Front(engine, tokenizer, ends(model, tokenizer), model, name, limit)
    web.run_app(front.application(), host="127.0.0.1", port=port, print=None, access_log=None, shutdown_timeout=1)


def ends(model: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer: the generation settings' and the tokenizer's own."""
    path = model / "generation_config.json"
    said = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
    several = said if isinstance(said, list) else [said]
    own = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8")).get("eos_token")
    end = tokenizer.token_to_id(own["content"] if isinstance(own, dict) else own) if own else None
    return frozenset(int(token) for token in (*several, end) if token is not None)
