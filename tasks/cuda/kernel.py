"""The kind `cuda_kernel`: a day's .cu file, timed on a GPU; without one, what the compiler or a trace can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks import api
from tasks.cuda import counts, emulate, emulated, points, resources, timed
from tasks.cuda.source import Source

Params, Point, METRICS = points.Params, points.Point, points.METRICS

TOOLS = {"sectors": "ncu", "banks": "ncu", "memcheck": "compute-sanitizer", "migration": "nsys"}
ENVIRONMENT = "cuda"
PTXAS, SIMULATOR = "ptxas and SASS report", "numba CUDA simulator"


def needs(params: points.Params) -> Sequence[api.Needs]:
    tools = tuple(sorted({TOOLS[one] for one in params.measures if one in TOOLS}))
    found = [api.Needs(backend="CUDA", environment=ENVIRONMENT, binaries=("g++", *tools), gpus=1, memory_gb=4)]
    if params.stand_in == "ptxas":
        found.append(stand_in(PTXAS, ("g++",)))
    elif params.stand_in == "trace":
        compiler = ("g++",) if "resources" in params.measures else ()
        found.append(stand_in(SIMULATOR, compiler))
    elif params.stand_in == "emulate":
        found.append(stand_in(emulated.BACKEND, emulate.BINARIES))
    return found


def stand_in(backend: str, binaries: tuple[str, ...]) -> api.Needs:
    """What runs without a GPU: counts and resources, no times."""
    return api.Needs(
        backend=backend, stand_in_for="CUDA", environment=ENVIRONMENT, binaries=binaries, memory_gb=1,
        unmeasured=tuple(points.TIMED),
    )  # fmt: skip


def run(params: points.Params, ctx: api.Context) -> None:
    source = Source(params, ctx)
    for point in ctx.points:
        axes = point.axes()
        metrics: dict[str, float] = {}
        spread: dict[str, api.Spread] = {}
        notes = []
        if ctx.tier == "native" and "time" in params.measures:
            metrics, spread, note = timed.measure(source, params, axes)
            notes.append(note)
        if {"sectors", "banks", "memcheck"} & set(params.measures):
            counted, note = count(source, params, ctx, axes)
            metrics |= counted
            notes.append(note)
        if "resources" in params.measures:
            static, note = resources.measure(source, params, axes)
            metrics |= static
            notes.append(note)
        ctx.record(point, metrics, spread, "; ".join(note for note in notes if note))
    if params.picture:
        counts.draw(params, ctx)


def count(
    source: Source, params: points.Params, ctx: api.Context, axes: Mapping[str, points.Value]
) -> tuple[dict[str, float], str]:
    """Sectors, bank conflicts, faults: by NVIDIA's tools, by the twin or by running the kernel on the CPU."""
    if ctx.tier == "native":
        return counts.native(source, params, axes), ""
    if params.stand_in == "emulate":
        return emulated.measure(source, params, axes)
    return counts.traced(params, ctx, axes)
