"""Text to picture: schedulers, steps and a compiled UNet, scored by a judge that names what each sample shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tasks import api
from tasks.models import diffusion, judge
from tasks.multimodal import exam, studio, unet
from tasks.multimodal.studio import Engine, Scheduler, Studio
from tasks.services import timing

BATCH = 16
WARM_STEPS = 2
STRIDE = 5  # through the 16 prompts: neighbours differ in colour and shape


class Params(api.Params):
    samples: int = 32  # pictures that the judge scores at each point; the prompts in turn
    repeats: int = 8  # single pictures that are timed at each point
    guidance: float = diffusion.GUIDANCE


class Point(api.Params):
    engine: Engine = "eager"
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
    home, tiny = exam.painter(ctx.settings, ctx.seed, ctx.say)
    named, sure = judge.load(ctx.seed, ctx.say)
    room = Studio(diffusion.load(home, "cuda" if ctx.backend == "TensorRT" else "cpu"), params.guidance, tiny)
    compiled = [point for point in ctx.points if point.engine == "compiled"]
    eager = {point: reference(room, point, ctx) for point in compiled}
    for point in ctx.points:
        if point.engine == "eager":
            measure(room, point, params, ctx, named, {"judge_accuracy_pct": 100 * sure, "pixel_difference_max": 0})
    if compiled:
        with using(room, ctx):
            for point in compiled:
                apart = studio.difference(reference(room, point, ctx), eager[point])
                known = {"judge_accuracy_pct": 100 * sure, "pixel_difference_max": apart}
                measure(room, point, params, ctx, named, known)


def reference(room: Studio, point: Point, ctx: api.Context) -> Any:
    """One picture by which engines are compared."""
    return room.paint(point.scheduler, point.steps, judge.PROMPTS[:1], [ctx.seed])[0]


@contextmanager
def using(room: Studio, ctx: api.Context) -> Iterator[None]:
    """The compiled UNet in the place of the pipeline's own."""
    began = time.perf_counter()
    back = unet.swap(room.pipeline, ctx.backend, ctx.scratch / "engine")
    ctx.say(f"{ctx.backend} compiled the UNet in {time.perf_counter() - began:.1f} s; it agrees with torch")
    try:
        yield
    finally:
        back()


def measure(
    room: Studio, point: Point, params: Params, ctx: api.Context, named: judge.Judge, known: Mapping[str, float]
) -> None:
    """Score a point's samples, time single pictures, keep some for the contact sheet, record."""
    count = len(judge.PROMPTS)
    prompts = [judge.PROMPTS[STRIDE * number % count] for number in range(params.samples)]
    seeds = [ctx.seed + 1000 + number for number in range(params.samples)]
    room.paint(point.scheduler, WARM_STEPS, prompts[:BATCH], seeds[:BATCH])  # an engine's first batch of a size is slow
    began, pictures = time.perf_counter(), []
    for at in range(0, params.samples, BATCH):
        part = slice(at, at + BATCH)
        pictures += room.paint(point.scheduler, point.steps, prompts[part], seeds[part])
    took = time.perf_counter() - began
    right = [said == wish for said, wish in zip(named(exam.reduced(pictures)), prompts, strict=True)]
    spread = timing.spread(single(room, point, params, ctx))
    metrics = {
        **known, "accuracy_pct": exam.share_pct(right), "latency_p50_ms": spread.p50, "latency_p95_ms": spread.p95,
        "images_per_s": params.samples / took,
    }  # fmt: skip
    studio.keep(ctx.out, f"{point.engine} {point.scheduler} {point.steps:02}", pictures)
    ctx.record(point, metrics, {"latency_p50_ms": spread})


def single(room: Studio, point: Point, params: Params, ctx: api.Context) -> list[float]:
    """Milliseconds of single pictures: another prompt and seed each time."""
    found = []
    for number in range(-1, params.repeats):  # the first one warms up
        prompt = judge.PROMPTS[STRIDE * number % len(judge.PROMPTS)]
        began = time.perf_counter()
        room.paint(point.scheduler, point.steps, [prompt], [ctx.seed + 5000 + number])
        found.append((time.perf_counter() - began) * 1e3)
    return found[1:]
