"""Kind `triton_batching`: a model without and with dynamic batching, and with batches of several preferred sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.services import perf_analyzer
from tasks.triton import config as pbtxt
from tasks.triton import repository

METRICS = {
    "latency_p50_ms": "median latency of a request",
    "latency_p99_ms": "99th percentile of the same latencies",
    "throughput_rps": "requests per second answered",
    "mean_batch": "requests in an execution of the model on average, by Triton's own counters",
    "queue_ms": "mean time that a request waited in the server, by Triton's own counters",
}
SAME = "without dynamic batching the preferred size has no effect: these are the same settings, measured again"


class Params(repository.Source):
    concurrency: int = 16


class Point(Base):
    dynamic_batching: Literal["off", "on"] = "on"
    preferred_batch_size: int = 4


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton", environment="triton")]


def run(params: Params, ctx: Context) -> None:
    """For each point a fresh server on the day's configuration with the point's batching."""
    for number, point in enumerate(ctx.points):

        def batch(model: Any, point: Point = point) -> Any:
            return pbtxt.with_batching(model, point.preferred_batch_size if point.dynamic_batching == "on" else None)

        folder = ctx.scratch / f"{point.dynamic_batching}-{point.preferred_batch_size}"
        ctx.say(f"starting Triton, dynamic batching {point.dynamic_batching}, size {point.preferred_batch_size}")
        with repository.serve(params, ctx, ctx.out / "triton.log", folder=folder, change=batch) as served:
            before = served.client.times()[params.model]
            load = perf_analyzer.measure(
                served.plan(params.model, ctx.seed + number, params.concurrency, params.window_ms), served.grpc
            )
            means = served.client.times()[params.model].since(before)
        metrics = {
            "latency_p50_ms": load.latency.p50,
            "latency_p99_ms": load.latency.p99,
            "throughput_rps": load.throughput_rps,
            "mean_batch": means.mean_batch,
            "queue_ms": means.queue_ms,
        }
        notes = [SAME if point.dynamic_batching == "off" else "", load.note]
        ctx.record(point, metrics, {"latency_p50_ms": load.latency}, "; ".join(filter(None, notes)))
