"""Kind `triton_instances`: throughput of one model by the number of its instances."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.services import perf_analyzer
from tasks.triton import config as pbtxt
from tasks.triton import pair, repository
from tasks.triton.pair import A
from tasks.triton.usage import cpu_seconds, gpu_memory_mb, rss_mb

METRICS = {
    "throughput_rps": "requests per second answered",
    "latency_p50_ms": "median latency of a request",
    "latency_p99_ms": "99th percentile of the same latencies",
    "cpu_pct": "CPU of the server and its instances: their time for one request times the throughput; 100 is one core",
    "rss_mb": "resident memory of the server and its instances under load; pages that they share count in each",
    "vram_mb": "GPU memory in use under load, less what was in use before the server was started",
}
ON_GPU = "Triton on a GPU"


class Params(pair.Pair):
    concurrency: int = 8
    repository: str = ""  # a folder of models: then `model` of it is served with `config` instead of the pair
    model: str = "digits_onnx"

    @property
    def loaded(self) -> str:
        """The model under load."""
        return self.model if self.repository else A


class Point(Base):
    instances: int = 1


def needs(params: Params) -> Sequence[Needs]:
    """What a model takes of a GPU's memory can be seen on a GPU only; its throughput everywhere."""
    if not params.repository:
        return [Needs("Triton", environment="triton")]
    gpu = Needs(ON_GPU, environment="triton", gpus=1)
    return [gpu, Needs("Triton", environment="triton", unmeasured=("vram_mb",))]


def run(params: Params, ctx: Context) -> None:
    """For each point a fresh server with that many instances of the loaded model."""
    gpu = ctx.backend == ON_GPU
    for number, point in enumerate(ctx.points):
        ctx.say(f"starting Triton with {point.instances} instances")
        empty_mb = gpu_memory_mb() if gpu else 0.0
        with serve(params, point, ctx, "gpu" if gpu else "cpu") as served:
            before, answered = cpu_seconds(served.pid), served.client.times()[params.loaded].requests
            plan = served.plan(params.loaded, ctx.seed + number, params.concurrency, params.window_ms)
            load = perf_analyzer.measure(plan, served.grpc)
            answered = served.client.times()[params.loaded].requests - answered
            metrics = {
                "throughput_rps": load.throughput_rps,
                "latency_p50_ms": load.latency.p50,
                "latency_p99_ms": load.latency.p99,
                "cpu_pct": (cpu_seconds(served.pid) - before) / answered * load.throughput_rps * 100,
                "rss_mb": rss_mb(served.pid),
                **({"vram_mb": gpu_memory_mb() - empty_mb} if gpu else {}),
            }
        ctx.record(point, metrics, {"latency_p50_ms": load.latency}, load.note)


def serve(params: Params, point: Point, ctx: Context, device: str) -> AbstractContextManager[Any]:
    """The pair, or the day's own model, with the point's instances."""
    log, folder = ctx.out / "triton.log", ctx.scratch / f"instances-{point.instances}"
    if params.repository:
        source = repository.Source(repository=params.repository, model=params.model, config=params.config)

        def scale(model: Any) -> Any:
            return pbtxt.with_instances(model, point.instances)

        return repository.serve(source, ctx, log, folder=folder, device=device, change=scale)

    def scale_a(name: str, model: Any) -> Any:
        return pbtxt.with_instances(model, point.instances) if name == A else model

    return pair.serve(params, ctx.day / params.config, ctx, log, folder=folder, change=scale_a)
