"""Kind `parallel_speedup`: one device against several: the same pass, and what the added devices are worth."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks import api
from tasks.distributed import ranks
from tasks.distributed.shape import Shape
from tasks.services import timing

METRICS = {
    "latency_p50_ms": "median of a forward pass, of the slowest rank each time",
    "latency_p95_ms": "95th percentile of the same",
    "speedup": "median on one device over the median on this many, both measured in this run",
    "efficiency_pct": "speed-up for each device, in percent",
}


class Params(Shape): ...


class Point(api.Params):
    devices: int = Field(default=2, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    return ranks.needs(2)


def run(params: Params, ctx: api.Context) -> None:
    """One device runs the whole blocks without any exchange; several run the learner's tensor parallelism."""
    for point in ctx.points:
        alone = spread(1, params, ctx)
        several = alone if point.devices == 1 else spread(point.devices, params, ctx)
        speedup = alone.p50 / several.p50
        metrics = {
            "latency_p50_ms": several.p50, "latency_p95_ms": several.p95, "speedup": speedup,
            "efficiency_pct": 100 * speedup / point.devices,
        }  # fmt: skip
        note = f"one device in this run: median {alone.p50:.1f} ms, n={alone.n}"
        ctx.record(point, metrics, {"latency_p50_ms": several, "latency_p95_ms": several}, note)


def spread(devices: int, params: Params, ctx: api.Context) -> api.Spread:
    params.divided(devices)
    ctx.say(f"{devices} device{'s' if devices > 1 else ''} over {ctx.backend}")
    file = None if devices == 1 else ctx.day / params.file
    step = params.step("single" if devices == 1 else "tensor", ctx.seed)
    (seen,) = ranks.measure(file, devices, ctx.backend, [step], ctx.scratch)
    ranks.equal(seen, params.file)
    return timing.spread(ranks.latencies(seen))
