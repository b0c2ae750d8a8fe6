"""Text to picture: schedulers, steps and a compiled UNet, scored by a judge that names what each sample shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from tasks import api
from tasks.models import diffusion, judge
from tasks.multimodal import exam, unet
from tasks.services import timing

Scheduler = Literal["ddim", "euler", "dpm++"]
CLASSES: Mapping[Scheduler, str] = {
    "ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "dpm++": "DPMSolverMultistepScheduler",
}  # fmt: skip
ON_SHEET = 16
BATCH = 16


class Params(api.Params):
    samples: int = 48  # pictures that the judge scores at each point; the prompts in turn
    repeats: int = 8  # single pictures that are timed at each point
    guidance: float = diffusion.GUIDANCE


class Point(api.Params):
    engine: Literal["eager", "compiled"] = "eager"
    scheduler: Scheduler = "ddim"
    steps: int = 20


METRICS: Mapping[str, str] = {
    "accuracy_pct": "samples in which the judge sees the colour and the shape that were asked for",
    "latency_p50_ms": "median time of one picture from prompt to pixels",
    "latency_p95_ms": "95th percentile of the same pictures",
    "images_per_s": "pictures per second in batches of 16",
    "pixel_difference_max": "largest difference from the eager pipeline's picture of the same seed, of 255",
    "judge_accuracy_pct": "the judge's own accuracy on freshly drawn pictures",
}


def needs(params: Params) -> Sequence[api.Needs]:
    both: dict[str, Any] = {"environment": "training", "settings": ("model",)}
    gpu = api.Needs(backend="TensorRT", gpus=1, modules=("tensorrt", "onnx"), memory_gb=12, **both)
    return [gpu, api.Needs(backend="OpenVINO", stand_in_for="TensorRT", memory_gb=3, **both)]


def run(params: Params, ctx: api.Context) -> None:
    home = diffusion.home(ctx.settings, ctx.seed, ctx.say)
    named, sure = judge.load(ctx.seed, ctx.say)
    pipeline = diffusion.load(home, "cuda" if ctx.backend == "TensorRT" else "cpu")
    for engine in dict.fromkeys(point.engine for point in ctx.points):
        reference = {}
        if engine == "compiled":  # what the eager pipeline paints, before its UNet is swapped
            for point in ctx.points:
                reference[point] = paint(pipeline, point, [judge.PROMPTS[0]], [ctx.seed], params)
        with using(pipeline, engine, ctx):
            for point in (point for point in ctx.points if point.engine == engine):
                measure(pipeline, point, params, ctx, named, sure, reference.get(point))


@contextmanager
def using(pipeline: Any, engine: str, ctx: api.Context) -> Iterator[None]:
    if engine == "eager":
        yield
        return
    began = time.perf_counter()
    back = unet.swap(pipeline, ctx.backend, ctx.scratch / "engine")
    ctx.say(f"{ctx.backend} compiled the UNet in {time.perf_counter() - began:.1f} s and agrees with torch")
    try:
        yield
    finally:
        back()


def measure(
    pipeline: Any, point: Point, params: Params, ctx: api.Context, named: judge.Judge, sure: float, reference: Any
) -> None:
    prompts = [judge.PROMPTS[number % len(judge.PROMPTS)] for number in range(params.samples)]
    seeds = [ctx.seed + 1000 + number for number in range(params.samples)]
    paint(pipeline, point, prompts[:2], seeds[:2], params)
    began, parts = time.perf_counter(), []
    for at in range(0, params.samples, BATCH):
        parts.append(paint(pipeline, point, prompts[at : at + BATCH], seeds[at : at + BATCH], params))
    took = time.perf_counter() - began
    pictures = [picture for part in parts for picture in part]
    right = [said == wish for said, wish in zip(named(exam.reduced(pictures)), prompts, strict=True)]
    samples = single(pipeline, point, params, ctx)
    spread = timing.spread(samples)
    metrics = {
        "accuracy_pct": exam.share_pct(right), "latency_p50_ms": spread.p50, "latency_p95_ms": spread.p95,
        "images_per_s": params.samples / took, "judge_accuracy_pct": 100 * sure,
        "pixel_difference_max": differing(pipeline, point, params, ctx, reference),
    }  # fmt: skip
    cells = list(zip(pictures, prompts, right, strict=True))[:ON_SHEET]
    exam.sheet(ctx.out / f"samples-{point.engine}-{point.scheduler}-{point.steps:02}.png", cells, columns=8)
    ctx.record(point, metrics, {"latency_p50_ms": spread})


def single(pipeline: Any, point: Point, params: Params, ctx: api.Context) -> list[float]:
    """Milliseconds of single pictures: other prompts and seeds each time."""
    found = []
    for number in range(params.repeats):
        prompt, seed = judge.PROMPTS[5 * number % len(judge.PROMPTS)], ctx.seed + 5000 + number
        began = time.perf_counter()
        paint(pipeline, point, [prompt], [seed], params)
        found.append((time.perf_counter() - began) * 1e3)
    return found


def differing(pipeline: Any, point: Point, params: Params, ctx: api.Context, reference: Any) -> float:
    """How far a compiled UNet's picture is from the eager one's; the eager one is its own reference."""
    import numpy

    if reference is None:
        return 0.0
    found = paint(pipeline, point, [judge.PROMPTS[0]], [ctx.seed], params)
    return float(numpy.abs(found[0].astype(int) - reference[0].astype(int)).max())


def paint(pipeline: Any, point: Point, prompts: Sequence[str], seeds: Sequence[int], params: Params) -> list[Any]:
    """uint8 [height, width, 3] for each prompt; the seeds decide the noise, not the batch."""
    import diffusers
    import torch

    if type(pipeline.scheduler).__name__ != CLASSES[point.scheduler]:
        pipeline.scheduler = getattr(diffusers, CLASSES[point.scheduler]).from_config(pipeline.scheduler.config)
    made = pipeline(
        list(prompts), num_inference_steps=point.steps, guidance_scale=params.guidance, output_type="np",
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    )  # fmt: skip
    return list((made.images * 255).round().astype("uint8"))
