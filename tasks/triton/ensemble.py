"""Kind `triton_ensemble`: the learner's ensemble on a real Triton, checked against numpy, then put under load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.services import perf_analyzer, triton
from tasks.triton import pipeline
from tasks.triton.client import Client, max_abs_error

METRICS = {
    "load_ok_bool": "1 when the server loaded the ensemble and reports it ready",
    "max_abs_error": "largest deviation of the served probabilities from the numpy chain",
    "latency_p50_ms": "median latency of a request seen by perf_analyzer",
    "latency_p99_ms": "99th percentile of the same latencies",
    "throughput_rps": "requests per second answered",
    "postprocess_ms": "mean time of a request in the postprocessing step by Triton's statistics; 0 without that step",
}


class Params(Base):
    config: str = "ensemble_config.pbtxt"  # the day's file that is served as it is
    image_side: int = 16  # pixels; a multiple of 16
    tolerance: float = 1e-5
    window_ms: int = 300


class Point(Base):
    pipeline: Literal["normalize>model>softmax"] = "normalize>model>softmax"
    deployment: Literal["ensemble", "single"] = "ensemble"
    concurrency: int = 1
    postprocess: Literal["none", "python"] = "none"

    @property
    def model(self) -> str:
        if self.deployment == "single":
            return pipeline.SINGLE
        return pipeline.ENSEMBLE if self.postprocess == "none" else f"{pipeline.ENSEMBLE}_{pipeline.POSTPROCESS}"


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton", environment="triton")]


def run(params: Params, ctx: Context) -> None:
    """Serve every variant once; check and load the one that each point asks for."""
    with_postprocess = any(point.postprocess == "python" for point in ctx.points)
    built = pipeline.build(ctx.day / params.config, ctx.scratch, ctx.seed, postprocess=with_postprocess)
    ctx.say("starting Triton")
    with triton.serve(built.repository, ctx.out / "triton.log") as server:
        client = Client(server.grpc)
        for number, point in enumerate(ctx.points):
            measure(point, params, ctx, built, server.grpc, client, ctx.seed + number)
        client.close()


def measure(
    point: Point, params: Params, ctx: Context, built: pipeline.Pipeline, grpc: str, client: Client, seed: int
) -> None:
    """Values first, then the load on fresh images."""
    worst = check(point, params, built, client, seed)
    images = [{input_name(point, built): image} for image in pipeline.random_images(seed, 32, params.image_side)]
    before = client.times()
    plan = perf_analyzer.Plan(point.model, images, point.concurrency, window_ms=params.window_ms)
    load = perf_analyzer.measure(plan, grpc)
    step = pipeline.POSTPROCESS
    metrics = {
        "load_ok_bool": client.ready(point.model),
        "max_abs_error": worst,
        "latency_p50_ms": load.latency.p50,
        "latency_p99_ms": load.latency.p99,
        "throughput_rps": load.throughput_rps,
        "postprocess_ms": client.times()[step].since(before[step]).total_ms if point.postprocess == "python" else 0.0,
    }
    ctx.record(point, metrics, {"latency_p50_ms": load.latency}, load.note)


def check(point: Point, params: Params, built: pipeline.Pipeline, client: Client, seed: int) -> float:
    """The largest error over batches of 1, 3 and 8 random images; UserError beyond the tolerance."""
    output = built.output if point.deployment == "ensemble" else "probabilities"
    errors = []
    for batch in (1, 3, 8):
        images = pipeline.random_images(seed, batch, params.image_side)
        outputs = client.infer(point.model, {input_name(point, built): images})
        reference = built.reference(images)
        errors.append(max_abs_error(outputs.get(output), reference, f"{point.model}.{output}", params.tolerance))
        if point.postprocess == "python":
            labels = [f"class-{best}".encode() for best in reference.argmax(axis=1)]
            if outputs["top_label"].ravel().tolist() != labels:
                raise UserError(f"{point.model} names {outputs['top_label'].ravel().tolist()} instead of {labels}")
    return max(errors)


def input_name(point: Point, built: pipeline.Pipeline) -> str:
    return built.input if point.deployment == "ensemble" else "image"
