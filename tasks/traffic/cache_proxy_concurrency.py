"""A thousand and more requests at once through the client, all of them hits: who is busy, Redis or the client?"""

from __future__ import annotations

import asyncio
import csv
import resource
import subprocess
import time
from typing import Any

from tasks import api
from tasks.services import cached_triton, redis
from tasks.services.process import LOOPBACK
from tasks.traffic import cache_proxy_load as load
from tasks.traffic.cache_proxy_params import Params, Point

MODEL = "answers"
KEPT_S = 3600.0  # no entry may expire while it is asked for
PATIENCE_S = 60.0  # nobody may give up waiting: a timed-out look-up would ask Triton and spoil the figures
RAW_REQUESTS = 40_000  # a second or more: opening the connections must not count for much
OTHER_FILES = 300  # descriptors beside the connections


def concurrency(ctx: api.Context, params: Params) -> None:
    """For each point: as many requests in flight as connections, `requests` for each connection and repeat."""
    client_class = cached_triton.load_client(ctx.day / params.client)
    allow_connections(max(point.concurrency for point in ctx.points))
    with (
        redis.serve(ctx.scratch / "redis.log") as store,
        cached_triton.serve(ctx.scratch, {MODEL: {}}) as server,
    ):
        for point in ctx.points:
            asyncio.run(storm(ctx, params, point, client_class, server, store))


def allow_connections(count: int) -> None:
    """Raise this process' limit of open files as far as allowed. UserError when that is not enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise api.UserError(
            f"{count} connections need {wanted} open files, but at most {hard} are allowed",
            remedy=f"raise the limit: ulimit -Hn {wanted} (or LimitNOFILE, or docker run --ulimit nofile={wanted})",
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def storm(
    ctx: api.Context, params: Params, point: Point, client_class: Any, server: cached_triton.Answers, store: redis.Redis
) -> None:
    client = client_class(
        server.triton.grpc, store.url, model=MODEL, ttl_s=KEPT_S,
        connections=point.concurrency, timeout_s=PATIENCE_S,
    )  # fmt: skip
    inputs = load.questions((ctx.seed, point.concurrency), params.pool)
    try:
        await load.prove(client, inputs[:2])
        await load.closed_loop(client, inputs, range(params.pool), params.workers)  # every input is cached now
        ctx.say(f"opening {point.concurrency} connections")
        await wave(client, inputs, point.concurrency, 1)
        samples, rates, cpu_pct = [], [], []
        for _ in range(params.repeats):
            before, start = store.usage(), time.perf_counter()
            answered = await wave(client, inputs, point.concurrency, params.requests)
            seconds, after = time.perf_counter() - start, store.usage()
            if after.hits - before.hits != len(answered):
                raise api.UserError(f"{len(answered)} requests, but {after.hits - before.hits} hits in Redis")
            samples += answered
            rates.append(len(answered) / seconds)
            cpu_pct.append(100 * (after.cpu_s - before.cpu_s) / seconds)
    finally:
        await client.close()
    load.refuse_changed(samples)
    latency, rate, cpu = load.milliseconds(samples), load.spread(rates), load.spread(cpu_pct)
    metrics = {
        "ops_per_s": rate.p50, "redis_cpu_pct": cpu.p50, "latency_p50_ms": latency.p50, "latency_p99_ms": latency.p99,
        "keyspace_hits": len(samples),
    }  # fmt: skip
    spreads = {"ops_per_s": rate, "redis_cpu_pct": cpu, "latency_p50_ms": latency, "latency_p99_ms": latency}
    ctx.record(point, metrics | raw_load(store, point.concurrency), spreads)


async def wave(client: Any, inputs: Any, connections: int, requests: int) -> list[load.Sample]:
    """`requests` for each of `connections`, all connections in flight all the time."""
    order = (n % len(inputs) for n in range(connections * requests))
    return await load.closed_loop(client, inputs, order, connections)


def raw_load(store: redis.Redis, connections: int) -> dict[str, float]:
    """The same look-ups by redis-benchmark, a client in C: what Redis itself can do here."""
    key = next(store.admin.scan_iter("*", count=1000)).decode()
    argv = ["redis-benchmark", "-h", LOOPBACK, "-p", str(store.port), "-c", str(connections), "-n", str(RAW_REQUESTS)]
    before, start = store.usage(), time.perf_counter()
    done = subprocess.run([*argv, "--csv", "GET", key], capture_output=True, text=True, timeout=120, check=True)
    seconds, after = time.perf_counter() - start, store.usage()
    figures = next(csv.DictReader(done.stdout.splitlines()))
    return {
        "raw_ops_per_s": float(figures["rps"]),
        "raw_latency_p99_ms": float(figures["p99_latency_ms"]),
        "raw_redis_cpu_pct": 100 * (after.cpu_s - before.cpu_s) / seconds,
    }
