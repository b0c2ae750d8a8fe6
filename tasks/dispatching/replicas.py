"""Kind `dispatch_replicas`: requests with shared prefixes over several vLLM replicas, by three ways to choose one.

Each replica is a real vLLM on a core of its own (a GPU of its own where there are as many). The prefixes together are
larger than one replica's KV cache, so that it matters which replica has seen which; vLLM counts its cache hits itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.dispatching import policies
from tasks.llm import agreement
from tasks.models import fit, lm, shape
from tasks.services import timing
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint

METRICS = {
    "prefix_hit_pct": "prompt tokens that were found in a replica's cache, by vLLM's own counters over all replicas",
    "latency_p50_ms": "median time from sending a request to its last byte",
    "latency_p99_ms": "99th percentile of the same",
    "throughput_rps": "requests answered per second",
    "imbalance": "requests of the busiest replica over the mean of all",
    "waiting_peak": "most requests that were at one replica at once",
}


class Params(api.Params):
    """`prefixes` documents of `prefix_tokens` are asked about; a replica's cache holds `cache_tokens`."""

    replicas: int = Field(default=2, ge=2)
    prefixes: int = Field(default=16, ge=2)
    prefix_tokens: int = Field(default=512, ge=16)
    question_tokens: int = Field(default=16, ge=1)
    short_tokens: int = Field(default=4, ge=1)
    long_tokens: int = Field(default=32, ge=1)
    long_share: float = Field(default=0.1, ge=0, le=1)  # requests with a long answer
    cache_tokens: int = Field(default=5120, ge=64)
    requests: int = Field(default=192, ge=8)
    concurrency: int = Field(default=4, ge=1)
    max_model_len: int = Field(default=1024, ge=64)


class Point(api.Params):
    policy: policies.Name = "round_robin"


@dataclass(frozen=True)
class Ask:
    document: int
    prompt: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True)
class Done:
    replica: int
    seconds: float
    outstanding: int  # at its replica, itself included, when it was sent


def needs(params: Params) -> Sequence[api.Needs]:
    core = api.Needs(
        backend="vLLM, a core for each replica", environment="serving", memory_gb=6, settings=("model", "engine")
    )
    return [replace(core, backend="vLLM, a GPU for each replica", gpus=params.replicas), core]


def run(params: Params, ctx: api.Context) -> None:
    folder = lm.home(ctx.settings, ctx.seed, ctx.say)
    with started(params, folder, ctx) as fleet:
        for number, point in enumerate(ctx.points):
            work = workload(params, shape.read(folder).vocab, ctx.seed + number)
            before = [client.metrics(one) for one in fleet]
            began = time.perf_counter()
            done = asyncio.run(dispatched(fleet, work, policies.make(point.policy), params.concurrency))
            seconds = time.perf_counter() - began
            seen = [client.metrics(one).since(earlier) for one, earlier in zip(fleet, before, strict=True)]
            record(point, done, seconds, seen, ctx)


@contextmanager
def started(params: Params, folder: Path, ctx: api.Context) -> Iterator[list[Endpoint]]:
    """The replicas, started side by side; each answers as its model does."""
    gpu = "GPU" in ctx.backend
    bytes_per_token = fit.kv_bytes_per_token(shape.read(folder))
    options = vllm.Options(
        max_model_len=params.max_model_len, kv_gb=params.cache_tokens * bytes_per_token / vllm.GIB, gpu=gpu,
        max_num_seqs=max(16, params.concurrency),
    )  # fmt: skip
    cores = sorted(os.sched_getaffinity(0))

    def start(number: int) -> tuple[ExitStack, Endpoint]:
        if gpu:  # one after the other: the environment is the whole process's
            os.environ["CUDA_VISIBLE_DEVICES"] = str(number)
        else:
            os.sched_setaffinity(0, {cores[number % len(cores)]})  # of this thread, and so of its child
        stack = ExitStack()
        return stack, stack.enter_context(vllm.serve(folder, options, ctx.scratch / f"replica-{number}", ctx.say))

    with ExitStack() as fleet, ThreadPoolExecutor(1 if gpu else params.replicas) as threads:
        starts = [threads.submit(start, number) for number in range(params.replicas)]
        endpoints, faults = [], []
        for each in starts:
            try:
                stack, endpoint = each.result()
            except api.UserError as fault:
                faults.append(fault)
                continue
            fleet.push(stack)
            endpoints.append(endpoint)
        if faults:
            raise faults[0]
        for endpoint in endpoints:
            agreement.require(endpoint, folder, ctx.seed)
        yield endpoints


def workload(params: Params, vocabulary: int, seed: int) -> list[Ask]:
    """Every document is asked about equally often, in random order, each time with another question."""
    draw = random.Random(seed)

    def words(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary // 8, vocabulary) for _ in range(count))

    documents = [words(params.prefix_tokens) for _ in range(params.prefixes)]
    order = [number % params.prefixes for number in range(params.requests)]
    draw.shuffle(order)
    lengths = (params.short_tokens, params.long_tokens)
    return [
        Ask(document, documents[document] + words(params.question_tokens), lengths[draw.random() < params.long_share])
        for document in order
    ]


async def dispatched(
    fleet: Sequence[Endpoint], work: Sequence[Ask], choose: policies.Choose, concurrency: int
) -> list[Done]:
    """Every request through the dispatcher, `concurrency` at a time. UserError when one fails."""
    import aiohttp

    outstanding, room = [0] * len(fleet), asyncio.Semaphore(concurrency)
    timeout = aiohttp.ClientTimeout(total=client.TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def one(ask: Ask) -> Done:
            async with room:
                replica = choose(str(ask.document), outstanding)
                outstanding[replica] += 1
                busy, sent = outstanding[replica], time.perf_counter()
                try:
                    await posted(session, fleet[replica], ask)
                finally:
                    outstanding[replica] -= 1
                return Done(replica, time.perf_counter() - sent, busy)

        return list(await asyncio.gather(*map(one, work)))


async def posted(session: Any, server: Endpoint, ask: Ask) -> None:
    body = {
        "model": server.model, "prompt": list(ask.prompt), "max_tokens": ask.max_tokens, "temperature": 0,
        "ignore_eos": True,
    }  # fmt: skip
    async with session.post(f"{server.address}/v1/completions", json=body) as answer:
        said = await answer.json()
        tokens = said.get("usage", {}).get("completion_tokens")
        if answer.status != 200 or tokens != ask.max_tokens:
            raise api.UserError(f"{answer.status}, {tokens} of {ask.max_tokens} tokens: {said}", where=server.address)


def record(
    point: Point, done: Sequence[Done], seconds: float, seen: Sequence[client.Samples], ctx: api.Context
) -> None:
    hits, asked = (
        sum(one.values.get(f"vllm:prefix_cache_{name}_total", 0.0) for one in seen) for name in ("hits", "queries")
    )
    if not asked:
        raise api.UserError("vLLM counted no prefix-cache query: vllm:prefix_cache_queries_total did not grow")
    shares = [sum(one.replica == number for one in done) for number in range(len(seen))]
    latency = timing.spread([1000 * one.seconds for one in done])
    ctx.record(
        point,
        {
            "prefix_hit_pct": 100 * hits / asked, "latency_p50_ms": latency.p50, "latency_p99_ms": latency.p99,
            "throughput_rps": len(done) / seconds, "imbalance": max(shares) * len(shares) / len(done),
            "waiting_peak": max(one.outstanding for one in done),
        },
        {"latency_p50_ms": latency, "latency_p99_ms": latency},
        f"requests by replica: {', '.join(map(str, shares))}; every request starts with documents of its own",
    )  # fmt: skip
