"""Kind `triton_rate_limit`: two models that want the same resource; how Triton's rate limiter shares it out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.services import perf_analyzer
from tasks.services.perf_analyzer import spread
from tasks.triton import config as pbtxt
from tasks.triton import pair
from tasks.triton.pair import A, B

METRICS = {
    "throughput_rps": "requests per second of both models together",
    "share_pct": "model_a's part of the answered requests",
    "jain_index": "Jain's fairness index of the two throughputs: 1 equal, 0.5 one model gets everything",
    "latency_p99_ms": "99th percentile of the latencies of both models",
    "a_throughput_rps": "requests per second of model_a",
    "b_throughput_rps": "requests per second of model_b",
}


class Params(pair.Pair):
    concurrency: int = 4  # of each model, so that both always have requests waiting
    resource_count: int = 1  # how many of each resource the server has: fewer than instances that want one


class Point(Base):
    rate_limiter: Literal["off", "on"] = "off"
    priority: Literal["1:1", "1:2"] = "1:1"  # of model_a : model_b; the rate limiter alone reads it

    def of(self, model: str) -> int:
        first, second = self.priority.split(":")
        return int(first if model == A else second)


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton", environment="triton")]


def run(params: Params, ctx: Context) -> None:
    """For each point a fresh server; both models are kept saturated at the same time."""
    for number, point in enumerate(ctx.points):

        def prioritise(name: str, model: Any, point: Point = point) -> Any:
            return pbtxt.with_priority(model, point.of(name))

        file, log = ctx.day / params.config, ctx.out / "triton.log"
        folder = ctx.scratch / f"{point.rate_limiter}-{point.priority}".replace(":", "-")
        args = limiter(point, params, file)
        ctx.say(f"starting Triton, rate limiter {point.rate_limiter}, priorities {point.priority}")
        with pair.serve(params, file, ctx, log, folder=folder, change=prioritise, args=args) as served:
            plans = [served.plan(model, ctx.seed + number, params.concurrency, params.window_ms) for model in (A, B)]
            record(ctx, point, perf_analyzer.measure_together(plans, served.grpc))


def limiter(point: Point, params: Params, file: Path) -> tuple[str, ...]:
    """The server's rate-limiter options: `resource_count` of every resource that the file's models name."""
    if point.rate_limiter == "off":
        return ("--rate-limit=off",)
    wanted = pbtxt.rate_limiter_resources(list(pbtxt.parse_sections(file).values()))
    counts = (f"--rate-limit-resource={name}:{max(most, params.resource_count)}" for name, most in wanted.items())
    return ("--rate-limit=execution_count", *counts)


def record(ctx: Context, point: Point, loads: Sequence[perf_analyzer.Load]) -> None:
    rates = [load.throughput_rps for load in loads]
    latency = spread([ms for load in loads for ms in load.latencies_ms])
    metrics = {
        "throughput_rps": sum(rates),
        "share_pct": rates[0] / sum(rates) * 100,
        "jain_index": jain_index(rates),
        "latency_p99_ms": latency.p99,
        "a_throughput_rps": rates[0],
        "b_throughput_rps": rates[1],
    }
    ctx.record(point, metrics, {"latency_p99_ms": latency}, "; ".join(load.note for load in loads if load.note))


def jain_index(shares: Sequence[float]) -> float:
    """(sum of x)² / (n · sum of x²): R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984. Between 1/n and 1."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
