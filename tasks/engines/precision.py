"""The digit MLP as an FP32, an FP16 and an INT8 engine: speed against accuracy; TensorRT's engines are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks import api
from tasks.engines import pictures
from tasks.engines.contract import Deployable, Precision
from tasks.models import digits


class Params(api.Params):
    network: digits.Network = "mlp"
    script: str = "tensorrt_infer.py"  # the day's file that must get the same logits from a TensorRT engine
    batch: int = 32
    budget_s: float = 2.0
    calibration_images: int = 500


class Point(api.Params):
    precision: Precision = "fp32"


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one batch",
    "latency_p95_ms": "95th percentile of the same batches",
    "throughput_samples_s": "images per second of one closed loop",
    "accuracy_pct": "held-out digits named right",
    "max_rel_error": "largest difference of a logit from torch, as a share of the largest logit",
    "engine_size_kb": "what would be deployed, 10^3 bytes",
}
LIMIT: Mapping[Precision, float] = {"fp32": 5e-3, "fp16": 5e-2, "int8": 0.2}  # above it the engine is broken
SAME = 1e-3  # the script computes with the same engine


def needs(params: Params) -> Sequence[api.Needs]:
    return [pictures.TENSORRT, pictures.OPENVINO]


def run(params: Params, ctx: api.Context) -> None:
    native = ctx.backend == "TensorRT"
    kept = ctx.day / f"{params.network}.onnx" if native else None  # beside the engines: what they were built from
    given = pictures.prepare(params.network, ctx, kept)
    for point in ctx.points:
        seen = given.calibration(params.calibration_images) if point.precision == "int8" else None
        plan = given.plan(ctx.scratch, precision=point.precision, calibration=seen)
        engine = pictures.BACKENDS[ctx.backend].build(plan)
        error = pictures.agree(engine, given, params.batch, LIMIT[point.precision])
        metrics, latency = pictures.clock(engine, given, params.batch, params.budget_s)
        metrics |= {
            "accuracy_pct": pictures.accuracy_pct(engine, given),
            "max_rel_error": error,
            "engine_size_kb": engine.size_bytes / 1e3,
        }
        if native:
            keep(engine, given, point.precision, params, ctx)
        ctx.record(point, metrics, {"latency_p50_ms": latency}, f"{ctx.backend}, batch {params.batch}, {engine.ran}")


def keep(engine: Deployable, given: pictures.Pictures, precision: Precision, params: Params, ctx: api.Context) -> None:
    """The engine as a file for deployment: the deliverable, if the day's own script gets its logits from it."""
    file = ctx.scratch / f"{params.network}_{precision}.engine"
    file.write_bytes(engine.blob())
    shown = given.batch(50)
    told = pictures.ask_script(ctx.day / params.script, file, shown, ctx.scratch)
    error = pictures.difference(told, engine.logits(shown))
    if not error <= SAME:
        raise api.UserError(f"its logits differ by {error:.1e} from the engine's own", where=params.script)
    (ctx.day / file.name).write_bytes(file.read_bytes())
    ctx.say(f"{file.name} written")
