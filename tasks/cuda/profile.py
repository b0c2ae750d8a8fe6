"""The kind `gpu_profile`: what Nsight Compute says of a kernel; without a GPU ptxas and the occupancy formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks import api
from tasks.cuda import ncu, points, resources
from tasks.cuda.points import Value
from tasks.cuda.source import Source

Params, Point = points.Params, points.Point
PROFILED: Mapping[str, str] = {
    "achieved_occupancy_pct": "warps that were active on average, of the most a multiprocessor can hold (ncu)",
    "sm_throughput_pct": "of the multiprocessors' peak (ncu)",
    "memory_throughput_pct": "of the memory system's peak (ncu)",
}
METRICS: Mapping[str, str] = {**points.METRICS, **PROFILED}
ASKED = ("achieved_occupancy_pct", "registers_per_thread", "sm_throughput_pct", "memory_throughput_pct")


def needs(params: points.Params) -> Sequence[api.Needs]:
    native = api.Needs(backend="Nsight Compute", environment="cuda", binaries=("g++", "ncu"), gpus=1, memory_gb=4)
    if params.stand_in != "ptxas":
        return [native]
    static = api.Needs(
        backend="ptxas and SASS report", stand_in_for="Nsight Compute", environment="cuda", binaries=("g++",),
        memory_gb=1, unmeasured=tuple(PROFILED),
    )  # fmt: skip
    return [native, static]


def run(params: points.Params, ctx: api.Context) -> None:
    source = Source(params, ctx)
    for point in ctx.points:
        axes = point.axes()
        metrics, note = resources.measure(source, params, axes)
        if ctx.tier == "native":
            metrics |= profiled(source, params, axes)
        ctx.record(point, metrics, note=note)


def profiled(source: Source, params: points.Params, axes: Mapping[str, Value]) -> dict[str, float]:
    """ncu's figures; UserError when its registers are not those of ptxas: then another kernel was profiled."""
    name = points.filled(params.kernel, axes).partition("<")[0]
    found = ncu.profile(source.program(axes).file, source.arguments(axes), name, ASKED)
    expected = source.program(axes).kernel(points.filled(params.kernel, axes)).registers
    if found["registers_per_thread"] != expected:
        raise api.UserError(f"ncu saw {found['registers_per_thread']:.0f} registers, ptxas reported {expected}")
    return found
