"""Kind `triton_layout`: the same instances as one model or split over two, under the same load."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.services import perf_analyzer, triton
from tasks.triton import config as pbtxt
from tasks.triton import repository
from tasks.triton.client import Client, max_abs_error
from tasks.triton.usage import gpu_memory_mb, rss_mb

ON_GPU = "Triton on a GPU"
METRICS = {
    "throughput_rps": "requests per second answered by all models together",
    "latency_p50_ms": "median latency of all their requests",
    "latency_p99_ms": "99th percentile of the same latencies",
    "rss_mb": "resident memory of the server and its instances under load; pages that they share count in each",
    "vram_mb": "GPU memory in use under load, less what was in use before the server was started",
}
COUNTS = {"2x2": (2, 2), "1x4": (4,)}  # instances of each model


class Params(Base):
    repository: str = "ai-infra-inference-service/models"  # the day's folder of models
    model: str = "digits"
    concurrency: int = Field(default=8, ge=2)  # of all clients; shared out evenly over the models
    window_ms: int = 800
    tolerance: float = 1e-4


class Point(Base):
    layout: Literal["2x2", "1x4"] = "1x4"


def needs(params: Params) -> Sequence[Needs]:
    gpu = Needs(ON_GPU, environment="triton", gpus=1)
    return [gpu, Needs("Triton on CPU cores", stand_in_for=ON_GPU, environment="triton", unmeasured=("vram_mb",))]


def run(params: Params, ctx: Context) -> None:
    gpu = ctx.backend == ON_GPU
    for number, point in enumerate(ctx.points):
        folder = ctx.scratch / point.layout
        models = lay(params, COUNTS[point.layout], ctx, folder, "gpu" if gpu else "cpu")
        empty_mb = gpu_memory_mb() if gpu else 0.0
        with triton.serve(folder, ctx.out / "triton.log") as server:
            check(server, models, params, ctx)
            plans = [plan(name, model, params, len(models), ctx.seed + number) for name, model in models.items()]
            loads = perf_analyzer.measure_together(plans, server.grpc)
            memory = {"rss_mb": rss_mb(server.pid)}
            if gpu:
                memory["vram_mb"] = gpu_memory_mb() - empty_mb
        latency = perf_analyzer.spread([ms for load in loads for ms in load.latencies_ms])
        measured = {
            "throughput_rps": sum(load.throughput_rps for load in loads),
            "latency_p50_ms": latency.p50, "latency_p99_ms": latency.p99, **memory,
        }  # fmt: skip
        note = "; ".join(load.note for load in loads if load.note)
        ctx.record(point, measured, {"latency_p50_ms": latency}, note)


def lay(params: Params, counts: Sequence[int], ctx: Context, folder: Path, device: str) -> dict[str, Any]:
    """One copy of the model for each count, as `digits_1`, `digits_2`; name → ModelConfig."""
    models: dict[str, Any] = {}
    for number, count in enumerate(counts, 1):
        name, stage = f"{params.model}_{number}", ctx.scratch / "stage"
        source = repository.Source(repository=params.repository, model=params.model, config="")
        model = repository.lay(source, ctx.day, stage, device=device)
        model = pbtxt.with_instances(model, count)
        model.name = name
        (stage / params.model / repository.CONFIG).write_text(pbtxt.to_text(model), encoding="utf-8")
        folder.mkdir(exist_ok=True)
        shutil.move(stage / params.model, folder / name)
        models[name] = model
    return models


def check(server: triton.Triton, models: dict[str, Any], params: Params, ctx: Context) -> None:
    """Every model answers as its ONNX file does; also warms it up."""
    truth = repository.reference(next(iter(repository.onnx_files(ctx.day / params.repository / params.model).values())))
    client = Client(server.grpc)
    for name, model in models.items():
        x = repository.random_inputs(model, ctx.seed, 4)
        given = client.infer(name, {model.input[0].name: x})
        max_abs_error(next(iter(given.values())), truth(x), name, params.tolerance)
    client.close()


def plan(name: str, model: Any, params: Params, models: int, seed: int) -> perf_analyzer.Plan:
    """This model's share of the clients."""
    x = repository.random_inputs(model, seed, repository.DIFFERENT_INPUTS)
    inputs = [{model.input[0].name: one} for one in x]
    return perf_analyzer.Plan(name, inputs, params.concurrency // models, window_ms=params.window_ms)
