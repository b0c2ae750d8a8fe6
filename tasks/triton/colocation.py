"""Kind `triton_colocation`: two models on one server, each alone and both at once; what one costs the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.services import perf_analyzer
from tasks.services.perf_analyzer import Load, spread
from tasks.triton import pair
from tasks.triton.pair import A, B

METRICS = {
    "latency_p50_ms": "median latency of the observed requests: both models in a+b, the small one beside the large",
    "latency_p99_ms": "99th percentile of the same latencies",
    "latency_stddev_ms": "standard deviation of the same latencies: the jitter",
    "throughput_rps": "requests per second of the observed models together",
    "a_latency_p50_ms": "median latency of model_a alone",
    "a_latency_p99_ms": "99th percentile of model_a's latencies",
    "b_latency_p50_ms": "median latency of model_b alone",
    "b_latency_p99_ms": "99th percentile of model_b's latencies",
}


class Params(pair.Pair):
    device: Literal["cpu", "gpu"] = "cpu"  # gpu: a shared GPU is meant; shared CPU cores stand in for it
    concurrency: int = 2


class Point(Base):
    deployment: Literal["a_alone", "b_alone", "a+b"] = "a+b"
    load: Literal["small_alone", "small+large", ""] = ""  # model_a is the small one; only its requests are observed

    @property
    def loaded(self) -> list[str]:
        """The models under load."""
        if self.load:
            return [A] if self.load == "small_alone" else [A, B]
        return {"a_alone": [A], "b_alone": [B], "a+b": [A, B]}[self.deployment]


def needs(params: Params) -> Sequence[Needs]:
    if params.device == "gpu":
        gpu = Needs("Triton on a GPU", environment="triton", gpus=1)
        return [gpu, Needs("Triton on CPU cores", stand_in_for="Triton on a GPU", environment="triton")]
    return [Needs("Triton", environment="triton")]


def run(params: Params, ctx: Context) -> None:
    """One server with both models; each point loads the models it names."""
    device = "gpu" if ctx.backend == "Triton on a GPU" else "cpu"
    ctx.say("starting Triton")
    with pair.serve(params, ctx.day / params.config, ctx, ctx.out / "triton.log", device=device) as served:
        for number, point in enumerate(ctx.points):
            seed = ctx.seed + 10 * number
            plans = [served.plan(model, seed, params.concurrency, params.window_ms) for model in point.loaded]
            loads = perf_analyzer.measure_together(plans, served.grpc)
            record(ctx, point, dict(zip(point.loaded, loads, strict=True)))


def record(ctx: Context, point: Point, loads: dict[str, Load]) -> None:
    """The observed requests pooled, and each model's own latencies beside them."""
    observed = [loads[A]] if point.load else list(loads.values())
    latency = spread([ms for load in observed for ms in load.latencies_ms])
    metrics = {
        "latency_p50_ms": latency.p50,
        "latency_p99_ms": latency.p99,
        "latency_stddev_ms": latency.stdev,
        "throughput_rps": sum(load.throughput_rps for load in observed),
    }
    spreads = {"latency_p50_ms": latency}
    for model, load in loads.items():
        name = model.removeprefix("model_")
        metrics |= {f"{name}_latency_p50_ms": load.latency.p50, f"{name}_latency_p99_ms": load.latency.p99}
        spreads[f"{name}_latency_p50_ms"] = load.latency
    ctx.record(point, metrics, spreads, "; ".join(load.note for load in loads.values() if load.note))
