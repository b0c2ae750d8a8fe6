"""What a cache gains: response caches compared (experiment 1) and hit rates of 10, 50 and 90% (experiment 2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tasks import api
from tasks.services import cached_triton, redis
from tasks.traffic import cache_proxy_load as load
from tasks.traffic.cache_proxy_params import PLUGIN_BACKEND, Params, Point

PLAIN, CACHED = "answers", "answers_cached"  # the same model without and with Triton's response cache
PROOFS = 3  # inputs whose answers are compared with the reference before timing


@dataclass(frozen=True)
class Counts:
    """Counted by Triton and Redis, not by the client: computed requests, look-ups that hit and that missed."""

    executed: int
    hits: int
    misses: int

    def __sub__(self, other: Counts) -> Counts:
        return Counts(self.executed - other.executed, self.hits - other.hits, self.misses - other.misses)


@dataclass(frozen=True)
class Meter:
    """Reads the counters of one model and one Redis."""

    server: cached_triton.Answers
    store: redis.Redis
    model: str

    def counts(self) -> Counts:
        usage = self.store.usage()
        return Counts(self.server.settled(self.model), usage.hits, usage.misses)


@dataclass(frozen=True)
class Repeat:
    """One repeat of a load: its samples, answered requests a second, and what the servers counted."""

    samples: list[load.Sample]
    throughput_rps: float
    counts: Counts


def response_cache(ctx: api.Context, params: Params) -> None:
    """The same requests with no cache, with Redis in front of Triton (or inside it), with Triton's local cache."""
    client = cached_triton.load_client(ctx.day / params.client)
    with redis.serve(ctx.scratch / "redis.log") as store:
        plugin = ctx.backend == PLUGIN_BACKEND
        for options, points in groupby(ctx.points, lambda point: cache_options(point, store, plugin)):
            models = {PLAIN: {}, CACHED: {"cached": True}}
            with cached_triton.serve(ctx.scratch, models, cache=options) as server:
                for point in points:
                    asyncio.run(compare_cache(ctx, params, point, client, server, store))


def cache_options(point: Point, store: redis.Redis, plugin: bool) -> tuple[str, ...]:
    """Triton's cache options for a point; one server can only have one kind of cache."""
    if plugin and point.cache == "redis":
        host, port = store.address.split(":")
        return (f"--cache-config=redis,host={host}", f"--cache-config=redis,port={port}")
    return cached_triton.LOCAL_CACHE


async def compare_cache(
    ctx: api.Context, params: Params, point: Point, client_class: Any, server: cached_triton.Answers, store: redis.Redis
) -> None:
    in_front = point.cache == "redis" and ctx.backend != PLUGIN_BACKEND
    model = PLAIN if in_front or point.cache == "off" else CACHED
    meter = Meter(server, store, model)
    client = client_class(server.triton.grpc, store.url if in_front else None, model=model, ttl_s=params.ttl_s)
    try:
        await load.prove(client, load.questions((ctx.seed, 0), PROOFS))
        repeats = []
        for number in range(params.repeats):
            inputs = load.questions((ctx.seed, 1, number), params.pool)
            order = popular(params, (ctx.seed, 2, number))
            repeats.append(await measure(meter, client, inputs, order, params.workers))
    finally:
        await client.close()
    record(ctx, point, repeats)


def popular(params: Params, seed: Sequence[int]) -> list[int]:
    """Which input each request asks for: few are asked often, most seldom (Zipf)."""
    import numpy

    shares = numpy.arange(1, params.pool + 1, dtype=float) ** -params.zipf
    chosen = numpy.random.default_rng(seed).choice(params.pool, params.requests, p=shares / shares.sum())
    return [int(index) for index in chosen]


def hit_rate(ctx: api.Context, params: Params) -> None:
    """A share of the requests asks for inputs that are in the cache; every other request is new."""
    client_class = cached_triton.load_client(ctx.day / params.client)
    with (
        redis.serve(ctx.scratch / "redis.log") as store,
        cached_triton.serve(ctx.scratch, {PLAIN: {}}) as server,
    ):
        for point in ctx.points:
            asyncio.run(offer_hits(ctx, params, point, client_class, server, store))


async def offer_hits(
    ctx: api.Context, params: Params, point: Point, client_class: Any, server: cached_triton.Answers, store: redis.Redis
) -> None:
    import numpy

    meter = Meter(server, store, PLAIN)
    client = client_class(server.triton.grpc, store.url, model=PLAIN, ttl_s=params.ttl_s)
    known = round(params.requests * point.hit_rate_pct / 100)
    fresh = params.requests - known
    try:
        await load.prove(client, load.questions((ctx.seed, 0, point.hit_rate_pct), PROOFS))
        repeats = []
        for number in range(params.repeats):
            seed = (ctx.seed, point.hit_rate_pct, number)
            inputs = load.questions(seed, params.pool + fresh)
            order = [n % params.pool for n in range(known)] + list(range(params.pool, params.pool + fresh))
            order = [order[n] for n in numpy.random.default_rng(seed).permutation(len(order))]
            await load.closed_loop(client, inputs, range(min(params.pool, known)), params.workers)
            repeats.append(await measure(meter, client, inputs, order, params.workers))
    finally:
        await client.close()
    record(ctx, point, repeats)


async def measure(meter: Meter, client: Any, inputs: Any, order: Sequence[int], workers: int) -> Repeat:
    """Time one repeat; refuse it when the servers' counters contradict each other."""
    before, start = meter.counts(), time.perf_counter()
    samples = await load.closed_loop(client, inputs, order, workers)
    rate = len(samples) / (time.perf_counter() - start)
    counts = meter.counts() - before
    load.refuse_changed(samples)
    if counts.hits + counts.misses and (counts.hits + counts.executed, counts.misses) != (len(order), counts.executed):
        raise api.UserError(
            f"{len(order)} requests, but Redis counted {counts.hits} hits and {counts.misses} misses "
            f"and Triton computed {counts.executed}",
            remedy="look an input up once, ask Triton on every miss, and remember nothing outside Redis",
        )
    return Repeat(samples, rate, counts)


def record(ctx: api.Context, point: Point, repeats: Sequence[Repeat]) -> None:
    samples = [sample for each in repeats for sample in each.samples]
    hits = sum(each.counts.hits for each in repeats)
    lookups = hits + sum(each.counts.misses for each in repeats)
    executed = sum(each.counts.executed for each in repeats)
    latency = load.milliseconds(samples)
    throughput = load.spread([each.throughput_rps for each in repeats])
    ctx.record(
        point,
        {
            "hit_rate_pct": 100 * (len(samples) - executed) / len(samples),
            "observed_hit_pct": 100 * hits / lookups if lookups else 0.0,
            "keyspace_hits": hits,
            "latency_p50_ms": latency.p50,
            "latency_p99_ms": latency.p99,
            "throughput_rps": throughput.p50,
        },
        {"latency_p50_ms": latency, "latency_p99_ms": latency, "throughput_rps": throughput},
    )
