"""The one client of every engine: the OpenAI API, plain, chat, streamed and concurrent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.api import UserError
from tasks.services.llm.endpoint import Endpoint, explained, post
from tasks.services.llm.figures import Samples, metrics

__all__ = ["Answer", "Samples", "chat", "complete", "concurrently", "metrics", "span_s", "stream"]

TIMEOUT_S = 300.0
Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Answer:
    """What came back for one prompt. `token_ids` is empty where the server does not tell them.

    `seconds` is from sending to the last byte, `ttft_s` to the first piece of text (0 when not streamed), `pieces_s`
    the arrival of each piece since sending; `sent` is the clock (`time.perf_counter`) at sending.
    """

    text: str
    finish_reason: str
    usage: Mapping[str, int]
    token_ids: tuple[int, ...] = ()
    seconds: float = 0.0
    ttft_s: float = 0.0
    pieces_s: tuple[float, ...] = ()
    sent: float = 0.0
    error: str = ""

    @property
    def tokens(self) -> int:
        """How many tokens were generated, as the server counts them."""
        return int(self.usage.get("completion_tokens", len(self.token_ids)))

    @property
    def tpot_s(self) -> float:
        """Mean time of each output token after the first, seconds."""
        return (self.seconds - self.ttft_s) / (self.tokens - 1) if self.tokens > 1 else 0.0


def complete(
    endpoint: Endpoint, prompt: Prompt, max_tokens: int, temperature: float = 0, model: str = "", **more: Any
) -> Answer:
    """One completion; `model` names an adapter, `more` goes into the request (`ignore_eos`, `return_token_ids`)."""
    return answered(endpoint, "completions", asked(endpoint, prompt, max_tokens, temperature, model, more))


def chat(
    endpoint: Endpoint, messages: Sequence[Mapping[str, Any]], max_tokens: int, temperature: float = 0,
    model: str = "", **more: Any,
) -> Answer:  # fmt: skip
    """One turn of a conversation, templated by the server."""
    body = {"model": model or endpoint.model, "messages": list(messages), "max_tokens": max_tokens}
    return answered(endpoint, "chat/completions", {**body, "temperature": temperature, **more})


def stream(
    endpoint: Endpoint, prompt: Prompt, max_tokens: int, temperature: float = 0, model: str = "", **more: Any
) -> Answer:
    """One completion, streamed, with the arrival time of each piece."""
    return concurrently(endpoint, [prompt], 1, max_tokens, temperature, model, **more)[0]


def concurrently(
    endpoint: Endpoint, prompts: Sequence[Prompt], concurrency: int, max_tokens: int,
    temperature: float = 0, model: str = "", **more: Any,
) -> list[Answer]:  # fmt: skip
    """Every prompt, `concurrency` of them at a time, streamed; answers in the prompts' order.

    Raises UserError when the server refuses one, DeadServerError when it has ended. For a rate divide by `span_s`.
    """
    bodies = [asked(endpoint, prompt, max_tokens, temperature, model, more) for prompt in prompts]
    answers = asyncio.run(_all(endpoint, bodies, concurrency))
    failed = [answer.error for answer in answers if answer.error]
    if failed:
        said = f"{len(failed)} of {len(answers)} requests failed; the first: {failed[0]}"
        raise explained(endpoint, UserError(said, where=endpoint.model))
    return answers


def span_s(answers: Sequence[Answer]) -> float:
    """Seconds from the first request's sending to the last one's end."""
    return max(a.sent + a.seconds for a in answers) - min(a.sent for a in answers)


def asked(
    endpoint: Endpoint, prompt: Prompt, max_tokens: int, temperature: float, model: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    given = prompt if isinstance(prompt, str) else list(prompt)
    name = model or endpoint.model
    return {"model": name, "prompt": given, "max_tokens": max_tokens, "temperature": temperature, **more}


def answered(endpoint: Endpoint, path: str, body: Mapping[str, Any]) -> Answer:
    sent = time.perf_counter()
    try:
        found = post(f"{endpoint.address}/v1/{path}", body, TIMEOUT_S)
    except (UserError, OSError) as error:
        raise explained(endpoint, error) from error
    seconds = time.perf_counter() - sent
    if not found.get("choices"):
        raise UserError(f"it answered without a choice: {str(found)[:400]}", where=endpoint.model)
    choice = found["choices"][0]
    text = choice["text"] if "text" in choice else choice["message"]["content"] or ""
    ids, usage = tuple(choice.get("token_ids") or ()), found.get("usage") or {}
    return Answer(text, choice.get("finish_reason") or "", usage, ids, seconds, sent=sent)


async def _all(endpoint: Endpoint, bodies: Sequence[Mapping[str, Any]], concurrency: int) -> list[Answer]:
    import aiohttp

    room = asyncio.Semaphore(concurrency)
    limit = aiohttp.TCPConnector(limit=0, force_close=True)  # llama.cpp closes connections that others keep alive
    url = f"{endpoint.address}/v1/completions"
    async with aiohttp.ClientSession(connector=limit, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:

        async def one(body: Mapping[str, Any]) -> Answer:
            async with room:
                try:
                    return await _streamed(session, url, body)
                except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: a line that is not JSON
                    return Answer("", "error", {}, error=f"{type(error).__name__}: {error}")

        return list(await asyncio.gather(*map(one, bodies)))


@dataclass
class _Pieces:
    """What has arrived of a streamed answer."""

    texts: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    finish: str = ""

    def take(self, event: Mapping[str, Any], since: float) -> None:
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices") or ():
            self.ids += choice.get("token_ids") or ()
            self.finish = choice.get("finish_reason") or self.finish
            if choice.get("text") or choice.get("token_ids"):
                self.texts.append(choice.get("text") or "")
                self.times.append(since)


async def _streamed(session: Any, url: str, body: Mapping[str, Any]) -> Answer:
    pieces, sent = _Pieces(), time.perf_counter()
    wanted = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with session.post(url, json=wanted) as response:
        if response.status != 200:
            return Answer("", "error", {}, error=f"{response.status}: {(await response.text())[:400]}")
        async for line in response.content:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    return Answer("", "error", {}, error=json.dumps(event["error"])[:400])
                pieces.take(event, time.perf_counter() - sent)
    if not pieces.finish:
        return Answer("", "error", {}, error="the stream ended before the answer did")
    times = tuple(pieces.times)
    return Answer(
        "".join(pieces.texts), pieces.finish, pieces.usage, tuple(pieces.ids), time.perf_counter() - sent,
        times[0] if times else 0.0, times, sent,
    )  # fmt: skip
