"""Kind `dispatch_replicas`: requests with shared prefixes over several vLLM replicas, by three ways to choose one.

Each replica is a real vLLM on a core of its own (a GPU of its own where there are as many). The prefixes together are
larger than one replica's KV cache, so that it matters which replica has seen which; vLLM counts its cache hits itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.dispatching import fleet, policies
from tasks.dispatching.fleet import Ask, Done
from tasks.llm import agreement
from tasks.models import fit, lm, shape
from tasks.services import timing
from tasks.services.llm import client, vllm

WARM = 16  # requests for each replica before the first policy, which would pay for every new shape otherwise

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


def needs(params: Params) -> Sequence[api.Needs]:
    core = api.Needs(backend="vLLM, a core for each replica", environment="serving", memory_gb=6, settings=("model",))
    return [replace(core, backend="vLLM, a GPU for each replica", gpus=params.replicas), core]


def run(params: Params, ctx: api.Context) -> None:
    folder = lm.home(ctx.settings, ctx.seed, ctx.say)
    options = options_for(params, folder, "GPU" in ctx.backend)
    with fleet.started(params.replicas, folder, options, ctx.scratch, ctx.say) as servers:
        for server in servers:
            agreement.require(server, folder, ctx.seed)
        vocabulary = shape.read(folder).vocab
        warm = workload(params, vocabulary, ctx.seed, turn=-1)[: WARM * params.replicas]
        asyncio.run(fleet.dispatched(servers, warm, policies.make("round_robin"), params.concurrency))
        for number, point in enumerate(ctx.points):
            work = workload(params, vocabulary, ctx.seed, turn=number)
            before = [client.metrics(one) for one in servers]
            began = time.perf_counter()
            done = asyncio.run(fleet.dispatched(servers, work, policies.make(point.policy), params.concurrency))
            seconds = time.perf_counter() - began
            seen = [client.metrics(one).since(earlier) for one, earlier in zip(servers, before, strict=True)]
            record(point, done, seconds, seen, ctx)


def options_for(params: Params, folder: Path, gpu: bool) -> vllm.Options:
    """A replica whose KV cache holds `cache_tokens`."""
    bytes_per_token = fit.kv_bytes_per_token(shape.read(folder))
    return vllm.Options(
        max_model_len=params.max_model_len, kv_gb=params.cache_tokens * bytes_per_token / vllm.GIB, gpu=gpu,
        max_num_seqs=max(16, params.concurrency),
    )  # fmt: skip


def workload(params: Params, vocabulary: int, seed: int, turn: int) -> list[Ask]:
    """Every document is asked about equally often, in random order, each time with another question.

    Order and lengths are those of every turn; the words are new, so that no cache knows them from an earlier one.
    """
    draw, words = random.Random(seed), random.Random(f"{seed} {turn}")

    def drawn(count: int) -> tuple[int, ...]:
        return tuple(words.randrange(vocabulary // 8, vocabulary) for _ in range(count))

    documents = [drawn(params.prefix_tokens) for _ in range(params.prefixes)]
    order = [number % params.prefixes for number in range(params.requests)]
    draw.shuffle(order)
    lengths = (params.short_tokens, params.long_tokens)
    return [
        Ask(document, documents[document] + drawn(params.question_tokens), lengths[draw.random() < params.long_share])
        for document in order
    ]


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
