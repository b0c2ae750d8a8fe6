"""The kind `gemm_precision`: FP16 inputs summed in FP16 or FP32, on Tensor Cores; without them the errors alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.cuda import points, timed
from tasks.cuda.source import Source

SEED = 90


class Params(api.Params):
    """`source` takes `--variant fp16|fp32 --n N`. The emulation computes `sample` x `sample` elements of C."""

    source: str
    sample: int = 128
    arguments: list[str] = Field(default_factory=list)


class Point(api.Params):
    accumulate: Literal["fp16", "fp32"] = "fp32"
    n: int = 256


METRICS: Mapping[str, str] = {
    **{name: points.TIMED[name] for name in points.TIMED},
    "max_rel_error": "largest error over sum |a||b|, against the exact product of the FP16 inputs",
    "rms_error": "root of the mean square error against the exact product of the FP16 inputs",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs("CUDA Tensor Cores", environment="cuda", binaries=("g++",), gpus=1, memory_gb=4),
        api.Needs("numpy float16 on the CPU", "CUDA Tensor Cores", "cuda", memory_gb=1, unmeasured=("gflops",)),
    ]


def run(params: Params, ctx: api.Context) -> None:
    if ctx.tier != "native":
        for point in ctx.points:
            metrics = emulated(point.accumulate, point.n, params.sample)
            ctx.record(point, metrics, note=f"{params.sample} x {params.sample} of the {point.n} x {point.n} elements")
        return
    own = points.Params(source=params.source, argv={"accumulate": "--variant", "n": "--n"}, arguments=params.arguments,
                        tensor=True)  # fmt: skip
    source = Source(own, ctx)
    for point in ctx.points:
        metrics, spread, note = timed.measure(source, own, point.model_dump())
        ctx.record(point, metrics, spread, note)


def emulated(accumulate: str, n: int, sample: int) -> dict[str, float]:
    """Errors of `sample`² inner products of length n with inputs uniform in [-1, 1).

    A product of two FP16 values has 22 bits and is exact in FP32. FP16 sums are rounded after each product; a Tensor
    Core rounds once for several products, so its FP16 error is somewhat smaller.
    """
    import numpy

    random = numpy.random.default_rng([SEED, n])
    side = min(sample, n)
    a = random.uniform(-1, 1, (side, n)).astype(numpy.float16).astype(numpy.float32)
    b = random.uniform(-1, 1, (n, side)).astype(numpy.float16).astype(numpy.float32)
    total: Any = numpy.zeros((side, side), numpy.float32)
    for i in range(n):
        total += a[:, i, None] * b[None, i]
        if accumulate == "fp16":
            total = total.astype(numpy.float16).astype(numpy.float32)
    return errors(total, a, b)


def errors(total: Any, a: Any, b: Any) -> dict[str, float]:
    """Against the product in float64, which is exact enough: 2^-53 beside 2^-11."""
    import numpy

    left, right = a.astype(numpy.float64), b.astype(numpy.float64)
    error = numpy.abs(total - left @ right)
    scale = numpy.abs(left) @ numpy.abs(right)
    return {
        "max_rel_error": float((error / scale).max()),
        "rms_error": math.sqrt(float((error**2).mean())),
    }
