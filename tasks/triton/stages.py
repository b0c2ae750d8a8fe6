"""Kind `triton_stages`: how an ensemble's time divides between CPU preprocessing and the model, by image size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.services import triton
from tasks.services.perf_analyzer import spread
from tasks.triton import pipeline
from tasks.triton.client import Client, Times, max_abs_error

METRICS = {
    "preprocess_ms": "median time of a request in the step normalize (compute and copies) by Triton's statistics",
    "model_ms": "median time of a request in the step model, likewise",
    "preprocess_share_pct": "preprocessing's part of the whole time of the ensemble in the server",
    "ensemble_ms": "median time of a request in the ensemble by Triton's statistics",
    "image_kb": "size of one image",
    "max_abs_error": "largest deviation of the served probabilities from the numpy chain",
}


class Params(Base):
    config: str = "ensemble_config.pbtxt"
    small: int = 16  # sides of the square images in pixels, multiples of 16
    medium: int = 256
    large: int = 1024
    tolerance: float = 1e-5
    warmup: int = 5
    budget_s: float = 3.0  # for each size; ends earlier after `requests` requests
    requests: int = 300


class Point(Base):
    input_size: Literal["small", "medium", "large"] = "small"


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton", environment="triton")]


def run(params: Params, ctx: Context) -> None:
    """One server, sizes one after another; every request is a fresh image, its times are read after it."""
    built = pipeline.build(ctx.day / params.config, ctx.scratch, ctx.seed)
    ctx.say("starting Triton")
    with triton.serve(built.repository, ctx.out / "triton.log") as server:
        client = Client(server.grpc)
        for number, point in enumerate(ctx.points):
            measure(point, params, ctx, built, client, ctx.seed + number)
        client.close()


def measure(point: Point, params: Params, ctx: Context, built: pipeline.Pipeline, client: Client, seed: int) -> None:
    """Check one image of this size, warm up, then time single requests by the server's own statistics."""
    side: int = getattr(params, point.input_size)
    image = pipeline.random_images(seed, 1, side)
    served = client.infer(pipeline.ENSEMBLE, {built.input: image}).get(built.output)
    worst = max_abs_error(served, built.reference(image), f"{pipeline.ENSEMBLE}.{built.output}", params.tolerance)
    times = time_requests(params, built, client, side, seed)
    preprocess = spread([one["normalize"] for one in times])
    model = spread([one["model"] for one in times])
    whole = spread([one[pipeline.ENSEMBLE] for one in times])
    share = spread([one["normalize"] / one[pipeline.ENSEMBLE] * 100 for one in times])
    metrics = {
        "preprocess_ms": preprocess.p50,
        "model_ms": model.p50,
        "preprocess_share_pct": share.p50,
        "ensemble_ms": whole.p50,
        "image_kb": image.nbytes / 1024,
        "max_abs_error": worst,
    }
    spreads = {"preprocess_ms": preprocess, "model_ms": model, "preprocess_share_pct": share, "ensemble_ms": whole}
    ctx.record(point, metrics, spreads)


def time_requests(
    params: Params, built: pipeline.Pipeline, client: Client, side: int, seed: int
) -> list[dict[str, float]]:
    """Each request's time in ms in each step (queue left out) and in the whole ensemble (everything)."""
    models = (*pipeline.STEPS, pipeline.ENSEMBLE)
    deadline, times = time.monotonic() + params.budget_s, []
    for number in range(params.warmup + params.requests):
        image = pipeline.random_images(seed + number, 1, side)
        before = client.times()
        client.infer(pipeline.ENSEMBLE, {built.input: image})
        after = client.times_after(before, models)
        if number >= params.warmup:
            times.append(spent(before, after))
        if time.monotonic() > deadline and len(times) >= 20:
            break
    return times


def spent(before: dict[str, Times], after: dict[str, Times]) -> dict[str, float]:
    steps = {step: after[step].since(before[step]).compute_ms for step in pipeline.STEPS}
    return {**steps, pipeline.ENSEMBLE: after[pipeline.ENSEMBLE].since(before[pipeline.ENSEMBLE]).total_ms}
