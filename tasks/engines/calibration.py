"""Static INT8 calibrated on more and more digits, one weight scale per channel or per tensor.

Both backends run the same file: ONNX Runtime's quantizer writes Q/DQ pairs into the ONNX graph, which TensorRT builds
(10 and 11 have dropped or drop calibrators of their own) and OpenVINO turns into 8-bit kernels as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from tasks import api
from tasks.engines import pictures, variants
from tasks.models import digits


class Params(api.Params):
    network: digits.Network = "cnn"
    batch: int = 32
    budget_s: float = 1.0


class Point(api.Params):
    calib_samples: int = 500
    granularity: Literal["per-channel", "per-tensor"] = "per-channel"


METRICS: Mapping[str, str] = {
    "accuracy_pct": "held-out digits named right",
    "accuracy_fp32_pct": "the same of torch in fp32",
    "max_rel_error": "largest difference of a logit from torch, as a share of the largest logit",
    "latency_p50_ms": "median time of one batch",
    "latency_p95_ms": "95th percentile of the same batches",
    "throughput_samples_s": "images per second of one closed loop",
    "calib_time_s": "to run the calibration images and write the quantized file",
}
BROKEN = 0.5  # of the largest logit: more is not imprecision


def needs(params: Params) -> Sequence[api.Needs]:
    return [pictures.TENSORRT, pictures.OPENVINO]


def run(params: Params, ctx: api.Context) -> None:
    given = pictures.prepare(params.network, ctx)
    fp32_pct = 100 * digits.accuracy(given.torch, given.held_out)
    for point in ctx.points:
        seen = given.calibration(point.calib_samples)
        plan = given.plan(
            ctx.scratch, precision="int8", calibration=seen, per_channel=point.granularity == "per-channel"
        )
        began = time.perf_counter()
        quantized = variants.onnx_file(plan)
        took = time.perf_counter() - began
        built = pictures.BACKENDS[ctx.backend].build(replace(plan, onnx=quantized, precision="fp32"))
        error = pictures.agree(built, given, params.batch, BROKEN)
        metrics, latency = pictures.clock(built, given, params.batch, params.budget_s)
        metrics |= {
            "accuracy_pct": pictures.accuracy_pct(built, given),
            "accuracy_fp32_pct": fp32_pct,
            "max_rel_error": error,
            "calib_time_s": took,
        }
        real = min(point.calib_samples, digits.TRAINING)
        note = f"{real} real digits and {point.calib_samples - real} varied copies; {ctx.backend} ran {built.ran}"
        ctx.record(point, metrics, {"latency_p50_ms": latency}, note)
