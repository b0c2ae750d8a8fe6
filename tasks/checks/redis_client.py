"""Proves a cache client by what it does in front of a live Redis and a live Triton.

The first call misses and computes, the second hits with the same bytes, another input gets another answer, an
expired entry misses again, and with Redis gone Triton answers. Redis and Triton do the counting, not the client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.api import Verdict
from tasks.models import answers
from tasks.services import cached_triton, redis

MODEL = "answers"
CALL_S = 5.0  # a call that takes longer hangs
EXPIRY_GRACE_S = 1.0


class Params(api.Params):
    ttl_s: float = Field(3.0, ge=0.5, le=10)  # the expiry that the client is asked for


class Broken(Exception):
    """What the client did wrong."""


@dataclass
class Trial:
    """A client under trial between its two servers."""

    client: Any
    server: cached_triton.Answers
    store: redis.Redis
    inputs: Any
    evidence: dict[str, Any] = field(default_factory=dict)

    async def call(self, what: str, work: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(work, CALL_S)
        except TimeoutError:
            raise Broken(f"{what}: no answer within {CALL_S:g} s") from None
        except Exception as error:
            raise Broken(f"{what}: {type(error).__name__}: {error}") from error

    async def ask(self, what: str, index: int, *, computed: int) -> Any:
        """Ask input `index`; the answer must be right and Triton must have computed `computed` requests for it."""
        import numpy

        before, start = self.server.settled(MODEL), time.perf_counter()
        answer = await self.call(what, self.client.infer(self.inputs[index]))
        self.evidence[f"{what} (ms)"] = round(1000 * (time.perf_counter() - start), 2)
        expected = answers.Reference()(self.inputs[index])
        if not isinstance(answer, numpy.ndarray) or answer.shape != expected.shape:
            raise Broken(f"{what}: the answer is {describe(answer)}, expected an array of shape {expected.shape}")
        if not numpy.allclose(answer, expected, atol=1e-4):
            raise Broken(f"{what}: wrong values {answer[:3]}, expected {expected[:3]}")
        asked = self.server.settled(MODEL) - before
        if asked != computed:
            raise Broken(f"{what}: Triton computed {asked} requests, expected {computed}")
        return answer


def describe(answer: Any) -> str:
    return f"of shape {answer.shape}" if hasattr(answer, "shape") else f"a {type(answer).__name__}"


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="Redis", environment="triton", binaries=("redis-server",), memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    """Start Redis and Triton, try the client of `file`, stop both."""
    try:
        client_class = cached_triton.load_client(file)
    except api.UserError as error:
        return Verdict(False, str(error))
    with ExitStack() as stack:
        server = stack.enter_context(cached_triton.serve(work.scratch, {MODEL: {}}))
        redis_life = stack.enter_context(ExitStack())
        store = redis_life.enter_context(redis.serve(work.scratch / "redis.log"))
        return asyncio.run(judge(client_class, params, server, store, redis_life))


async def judge(
    client_class: Any, params: Params, server: cached_triton.Answers, store: redis.Redis, redis_life: ExitStack
) -> Verdict:
    import numpy

    inputs = numpy.random.default_rng(time.time_ns()).standard_normal((3, answers.WIDTH), numpy.float32)
    try:
        client = client_class(server.triton.grpc, store.url, model=MODEL, ttl_s=params.ttl_s)
    except Exception as error:
        return Verdict(False, f"CachedTriton(triton, redis, model=…, ttl_s=…): {type(error).__name__}: {error}")
    trial = Trial(client, server, store, inputs)
    try:
        await caches(trial)
        await expires(trial, params.ttl_s)
        redis_life.close()
        await trial.ask("with Redis stopped", 2, computed=1)
        await trial.call("close()", client.close())
    except Broken as fault:
        return Verdict(False, str(fault), trial.evidence)
    return Verdict(True, "misses, hits, expires, and falls back to Triton when Redis is down", trial.evidence)


async def caches(trial: Trial) -> None:
    first = await trial.ask("first call", 0, computed=1)
    if not trial.store.admin.dbsize():
        raise Broken("first call: nothing was kept in Redis")
    hits = trial.store.usage().hits
    second = await trial.ask("second call", 0, computed=0)
    if trial.store.usage().hits == hits:
        raise Broken("second call: answered without asking Redis (keyspace_hits did not grow)")
    if first.tobytes() != second.tobytes() or first.dtype != second.dtype:
        raise Broken("second call: the bytes differ from the first answer's")
    await trial.ask("another input", 1, computed=1)
    trial.evidence["keyspace_hits"] = trial.store.usage().hits


async def expires(trial: Trial, ttl_s: float) -> None:
    """Every entry must be gone once its expiry is over; Redis is asked, so that waiting proves nothing by itself."""
    deadline = time.monotonic() + ttl_s + EXPIRY_GRACE_S
    while any(trial.store.admin.exists(key) for key in trial.store.admin.keys("*")):
        if time.monotonic() > deadline:
            raise Broken(f"ttl_s={ttl_s:g}: entries are still in Redis after {ttl_s + EXPIRY_GRACE_S:g} s")
        await asyncio.sleep(0.05)
    await trial.ask("after the expiry", 0, computed=1)
