"""Kind `triton_warmup`: the first request after a fresh start, by how many requests came before it."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.services import triton
from tasks.triton import repository
from tasks.triton.client import Client

METRICS = {
    "first_request_ms": "latency of the first request of real traffic, median over fresh starts of the server",
    "steady_p50_ms": "median latency of the requests after it",
    "ready_time_s": "from the start of the server until it was ready and warmed up, median over the starts",
}


class Params(api.Params):
    repository: str = "ai-infra-inference-service/models"  # the day's folder of models
    model: str = "digits"
    starts: int = Field(default=4, ge=2)  # fresh servers for each point
    steady: int = Field(default=60, ge=20)  # requests for the steady latency


class Point(api.Params):
    warmup_n: int = Field(default=0, ge=0)


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs("Triton", environment="triton")]


def run(params: Params, ctx: api.Context) -> None:
    for point in ctx.points:
        firsts, steady, ready = [], [], []
        for start in range(params.starts):
            first, later, seconds = once(params, point, ctx, start)
            firsts.append(first)
            steady += later
            ready.append(seconds)
        measured = {
            "first_request_ms": statistics.median(firsts),
            "steady_p50_ms": statistics.median(steady),
            "ready_time_s": statistics.median(ready),
        }
        ctx.record(point, measured, {"first_request_ms": spread(firsts), "steady_p50_ms": spread(steady)})


def once(params: Params, point: Point, ctx: api.Context, start: int) -> tuple[float, list[float], float]:
    """A fresh server: latency of its first real request (ms), of those after it, and the time until it was warm (s)."""
    home = ctx.day / params.repository / params.model
    folder = ctx.scratch / f"models-{point.warmup_n}-{start}"
    source = repository.Source(repository=params.repository, model=params.model, config="")
    model = repository.lay(source, ctx.day, folder)
    truth = repository.reference(next(iter(repository.onnx_files(home).values())))
    inputs = repository.random_inputs(model, ctx.seed + start, point.warmup_n + params.steady + 1)
    name = model.input[0].name
    began = time.monotonic()
    with triton.serve(folder, ctx.out / "triton.log") as server:
        client = Client(server.grpc)
        for image in inputs[: point.warmup_n]:
            client.infer(params.model, {name: image[None]})
        warm_s = time.monotonic() - began
        latencies = [timed(client, params.model, name, image, truth) for image in inputs[point.warmup_n :]]
        client.close()
    shutil.rmtree(folder)
    return latencies[0], latencies[1:], warm_s


def timed(client: Client, model: str, name: str, image: Any, truth: repository.Reference) -> float:
    """The latency of one request in ms; its answer is checked afterwards."""
    import numpy as np

    asked = np.asarray(image)[None]
    began = time.perf_counter()
    answer = client.infer(model, {name: asked})
    elapsed = (time.perf_counter() - began) * 1000
    [given] = answer.values()
    if not np.allclose(given, truth(asked), atol=1e-4):
        raise api.UserError("the answer differs from the model's own", where=str(Path(model)))
    return elapsed


def spread(samples: Sequence[float]) -> api.Spread:
    from tasks.services import perf_analyzer

    return perf_analyzer.spread(samples)
