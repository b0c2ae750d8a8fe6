"""Expiry: a short one asks Triton again and again, a long one keeps answers of models that are gone (experiment 3).

All expiries are watched side by side: the same requests at the same rate, a Redis for each, one Triton whose model
is really updated every few seconds. Nobody tells the caches: expiry is all that removes an old answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tasks import api
from tasks.services import cached_triton, redis
from tasks.traffic import cache_proxy_load as load
from tasks.traffic.cache_proxy_params import Params, Point

MODEL = "answers"


@dataclass(frozen=True)
class Lane:
    """One expiry under watch: its point, its Redis, the learner's client."""

    point: Point
    store: redis.Redis
    client: Any


def expiry(ctx: api.Context, params: Params) -> None:
    client_class = cached_triton.load_client(ctx.day / params.client)
    with ExitStack() as stack:
        # every version stays loaded: Triton forgets the counters of a version that it unloads
        model = {"keep_versions": 1 + int(params.window_s / params.update_every_s)}
        server = stack.enter_context(cached_triton.serve(ctx.scratch, {MODEL: model}))
        stores = [
            stack.enter_context(redis.serve(ctx.scratch / f"redis-{point.ttl_s}.log")) for point in ctx.points
        ]  # fmt: skip
        asyncio.run(watch(ctx, params, client_class, server, stores))


async def watch(
    ctx: api.Context,
    params: Params,
    client_class: Any,
    server: cached_triton.Answers,
    stores: Sequence[redis.Redis],
) -> None:
    lanes = [
        Lane(point, store, client_class(server.triton.grpc, store.url, model=MODEL, ttl_s=point.ttl_s))
        for point, store in zip(ctx.points, stores, strict=True)
    ]
    order = requests(params, ctx.seed)
    inputs = load.questions((ctx.seed, 3), max(order) + 1)
    try:
        for lane in lanes:
            await load.prove(lane.client, load.questions((ctx.seed, 4), 2))
            lane.store.admin.flushall()
        before, executed = [lane.store.usage() for lane in lanes], server.settled(MODEL)
        live: list[tuple[float, int]] = [(0.0, 1)]
        updates = asyncio.create_task(update_regularly(server, params, live))
        answered = await asyncio.gather(
            *(paced_from(n / len(lanes), lane, inputs, order, params.rate_rps) for n, lane in enumerate(lanes))
        )
        after = [lane.store.usage() for lane in lanes]
        await updates
        executed = server.settled(MODEL) - executed
    finally:
        for lane in lanes:
            await lane.client.close()
    misses = sum(now.misses - then.misses for then, now in zip(before, after, strict=True))
    if misses != executed:
        raise api.UserError(f"Redis counted {misses} misses, but Triton computed {executed} requests")
    for lane, samples, then, now in zip(lanes, answered, before, after, strict=True):
        record(ctx, lane.point, samples, then, now, live)


def requests(params: Params, seed: int) -> list[int]:
    """The inputs to ask for: a pool that is asked again and again, and a share of inputs that are asked once."""
    import numpy

    count = round(params.rate_rps * params.window_s)
    chosen = numpy.random.default_rng((seed, 5))
    order = chosen.integers(params.pool, size=count)
    once = chosen.random(count) < params.one_off_pct / 100
    order[once] = params.pool + numpy.arange(once.sum())
    return [int(index) for index in order]


async def paced_from(share: float, lane: Lane, inputs: Any, order: Sequence[int], rate_rps: float) -> list[load.Sample]:
    """Start a share of a request's interval later, so that the lanes do not send at the same instant."""
    await asyncio.sleep(share / rate_rps)
    return await load.paced(lane.client, inputs, order, rate_rps)


async def update_regularly(server: cached_triton.Answers, params: Params, live: list[tuple[float, int]]) -> None:
    """Load a new version every `update_every_s`; note in `live` from when on each one surely answers."""
    start = time.perf_counter()
    for number in range(1, int(params.window_s / params.update_every_s)):
        await asyncio.sleep(start + number * params.update_every_s - time.perf_counter())
        await asyncio.to_thread(server.update, MODEL, number + 1)
        live.append((time.perf_counter(), number + 1))


def record(
    ctx: api.Context,
    point: Point,
    samples: Sequence[load.Sample],
    before: redis.Usage,
    after: redis.Usage,
    live: Sequence[tuple[float, int]],
) -> None:
    load.refuse_changed(samples)
    stale = sum(sample.version < max(v for since, v in live if since <= sample.sent) for sample in samples)
    hits = after.hits - before.hits
    latency = load.milliseconds(samples)
    ctx.record(
        point,
        {
            "hit_rate_pct": 100 * hits / (hits + after.misses - before.misses),
            "keyspace_hits": hits,
            "latency_p50_ms": latency.p50,
            "latency_p99_ms": latency.p99,
            "stale_pct": 100 * stale / len(samples),
            "redis_memory_mb": (after.used_bytes - before.used_bytes) / 1e6,
            "updates_count": len(live) - 1,
        },
        {"latency_p50_ms": latency, "latency_p99_ms": latency},
    )
