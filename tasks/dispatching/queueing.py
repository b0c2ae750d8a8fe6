"""Kind `dispatch`: a bounded queue under overload: how long it gets, whom it refuses, how long the accepted wait.

The capacity is measured first, by a server that always has work and never too much. Then every queue limit gets the
same overload.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tasks import api
from tasks.dispatching import server, shared
from tasks.services import burst

METRICS = {
    **burst.SHARES,
    "queue_length": "mean length of the queue while the load lasted, as the server reports it ten times a second",
    "queue_peak": "longest queue since the server's start, as it reports itself",
    "latency_p99_ms": "99th percentile of the latency of answered requests, from the moment they were due",
    "latency_p50_ms": "median of the same",
    "achieved_qps": "requests answered with 200 within the seconds of the load, per second",
    "offered_qps": "requests that were due, per second",
    "capacity_qps": "requests answered per second by a server that always has work, measured at the start of the run",
}


class Params(shared.Served):
    batch_limit: int = Field(default=4, ge=1)
    connections: int = Field(default=2000, ge=1)
    timeout_s: float = Field(default=10.0, gt=0)
    overload: float = Field(default=2.0, gt=1)  # offered, in capacities


class Point(api.Params):
    queue_limit: int = Field(default=100, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    return [shared.NEEDS]


def run(params: Params, ctx: api.Context) -> None:
    shared.more_files(params.connections + 256)
    file = ctx.day / params.file
    with server.serve(file, queue(params, 1000), ctx.scratch, ctx.out / "capacity.log") as one:
        capacity = shared.capacity_qps(one.target(), 16 * params.batch_limit, params.file, params, ctx)
    ctx.say(f"capacity {capacity:.0f} requests/s; offering {params.overload:g} times as much")
    for number, point in enumerate(ctx.points):
        measure(params, point, capacity, ctx.seed + number, ctx)


def queue(params: Params, limit: int) -> server.Queue:
    return server.Queue(limit, params.batch_limit, params.max_delay_ms, params.layers)


def peak_of(one: server.Server, where: str) -> float:
    """The longest queue by the server's own account. UserError when it does not tell."""
    try:
        return float(one.stats()["queue_peak"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise api.UserError(
            f"GET /stats does not tell queue_peak after the load: {error!r}", where=where, remedy=server.CONTRACT
        ) from error


def measure(params: Params, point: Point, capacity: float, seed: int, ctx: api.Context) -> None:
    file, out = ctx.day / params.file, ctx.scratch / "answers.npy"
    phases = [(params.seconds, params.overload * capacity)]
    more: dict[str, Any] = {"connections": params.connections, "timeout_s": params.timeout_s}
    with server.serve(file, queue(params, point.queue_limit), ctx.scratch, ctx.out / "server.log") as one:
        with burst.load(one.target(), phases, out, seed, **more), shared.queue_watched(one) as lengths:
            time.sleep(params.seconds)  # what is still queued then drains unwatched
        peak = peak_of(one, params.file)
    answers = burst.answers(out)
    if not lengths:
        raise api.UserError("GET /stats never told the queue's length", where=params.file, remedy=server.CONTRACT)
    if peak > point.queue_limit:
        raise api.UserError(f"the queue held {peak:g}, more than its limit {point.queue_limit}", where=params.file)
    latency = shared.right(answers, params.layers, params.file).latency_ms()
    ctx.record(
        point,
        {
            **answers.shares(), "queue_length": sum(lengths) / len(lengths), "queue_peak": peak,
            "latency_p99_ms": latency.p99, "latency_p50_ms": latency.p50, "capacity_qps": capacity,
            "achieved_qps": answers.achieved_qps(params.seconds), "offered_qps": len(answers.due) / params.seconds,
        },
        {"latency_p99_ms": latency},
        f"every one of the {latency.n} answers is that of its own request",
    )  # fmt: skip
