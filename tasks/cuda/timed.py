"""Run the program at a point on the GPU: times, rates and errors; its own counts; the speed-up over a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.api import Spread, UserError
from tasks.cuda import migration, program
from tasks.cuda.points import TIMED, Params, Value
from tasks.cuda.source import Source
from tasks.services import timing

MILLI = {"kernel_us": 1.0, "time_ms": 1e-3, "total_ms": 1e-3}  # samples are microseconds
RATES = {"gflops": 1e9, "throughput_gflops": 1e9, "tflops": 1e12}
BEYOND = 0.95  # of the GPU's memory


def measure(
    source: Source, params: Params, axes: Mapping[str, Value]
) -> tuple[dict[str, float], dict[str, Spread], str]:
    """Metrics, their spread and a note on the GPU. UserError when a result is wrong or beats the roofline."""
    gpu = source.gpu
    assert gpu is not None  # `time` is measured only where the needs have found a GPU
    refuse_to_overfill(params, axes)
    found = _run(source, params, axes)
    factor = MILLI[params.time_metric]
    taken = timing.spread([sample * factor for sample in found["samples_us"]])
    metrics = {params.time_metric: taken.p50, **rates(found, taken.p50 / factor)}
    metrics |= {name: float(found[name]) for name in TIMED if isinstance(found.get(name), int | float)}
    if params.baseline:
        base = _run(source, params, {**axes, **params.baseline})
        metrics["speedup_x"] = timing.spread(base["samples_us"]).p50 * factor / taken.p50
    if "migration" in params.measures:
        metrics |= migration.profile(source.program(axes).file, source.arguments(axes))
    return metrics, {params.time_metric: taken}, f"{gpu.name}, {source.program(axes).compiler}, {source.arch}"


def _run(source: Source, params: Params, axes: Mapping[str, Value]) -> dict[str, Any]:
    gpu = source.gpu
    assert gpu is not None
    return program.one(source.program(axes).file, source.arguments(axes), gpu, tensor=params.tensor)


def rates(found: Mapping[str, Any], median_us: float) -> dict[str, float]:
    """Bandwidth and operations per second, for what the program says that it moved and computed."""
    moved, operations = float(found.get("bytes", 0)), float(found.get("flops", 0))
    result = {"bandwidth_gb_s": moved / median_us * 1e6 / 1e9} if moved else {}
    if operations:
        result |= {name: operations / median_us * 1e6 / unit for name, unit in RATES.items()}
    return result


def refuse_to_overfill(params: Params, axes: Mapping[str, Value]) -> None:
    """Managed memory beyond the GPU's own can hang the GPU for everyone on it: only on a GPU of one's own."""
    if float(axes.get("footprint_of_vram", 0)) > BEYOND and not params.own_gpu:
        raise UserError(
            f"{axes['footprint_of_vram']} times the GPU's memory can hang a GPU that others use too",
            remedy="on a GPU of your own: run … plan.days.DAY.experiments.ID.params.own_gpu=true",
        )
