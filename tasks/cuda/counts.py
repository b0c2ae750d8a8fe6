"""Sectors, bank conflicts and faults at a point: by NVIDIA's tools on a GPU, by the twin's trace without one."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from tasks.api import Context, UserError, read_rows
from tasks.cuda import ncu, picture, sanitizer, trace
from tasks.cuda.points import Params, Value, filled
from tasks.cuda.source import Source


def native(source: Source, params: Params, axes: Mapping[str, Value]) -> dict[str, float]:
    """With ncu and compute-sanitizer."""
    program, arguments, kernel = source.program(axes).file, source.arguments(axes), filled(params.kernel, axes)
    metrics: dict[str, float] = {}
    if "sectors" in params.measures:
        names = ("load_sectors", "load_requests", "store_sectors", "store_requests", "load_efficiency_pct")
        found = ncu.profile(program, arguments, kernel, names)
        requests = found["load_requests"] + found["store_requests"]
        metrics["sectors_per_warp"] = (found["load_sectors"] + found["store_sectors"]) / requests
        metrics["load_efficiency_pct"] = found["load_efficiency_pct"]
    if "banks" in params.measures:
        found = ncu.profile(program, arguments, kernel, ("shared_wavefronts", "shared_loads", "shared_stores"))
        metrics["bank_conflict_degree"] = found["shared_wavefronts"] / (found["shared_loads"] + found["shared_stores"])
    if "memcheck" in params.measures:
        report = sanitizer.check(program, arguments)
        metrics |= faults(report.errors, report.thread[0] if report.thread else None)
    return metrics


def traced(params: Params, ctx: Context, axes: Mapping[str, Value]) -> tuple[dict[str, float], str]:
    """With the twin; the note says what was counted."""
    found = trace.of(ctx.day / params.twin, axes)
    metrics: dict[str, float] = {}
    if "memcheck" in params.measures:
        first = found.faults[0] if found.faults else None
        metrics |= faults(len(found.faults), first.thread[0] if first else None)
    elif found.faults:
        raise UserError(f"the twin reads or writes outside '{found.faults[0].array}'", where=params.twin)
    if "sectors" in params.measures:
        requests = found.requests("global")
        metrics["sectors_per_warp"] = fmean(map(trace.sectors, requests))
        metrics["load_efficiency_pct"] = load_efficiency(found)
    if "banks" in params.measures:
        shared = found.requests("shared")
        if not shared:
            raise UserError("the twin never touches shared memory", where=params.twin)
        metrics["bank_conflict_degree"] = fmean(map(trace.conflict_degree, shared))
    count = len(found.requests("global")) + len(found.requests("shared"))
    return metrics, f"{count} warp requests of the twin {params.twin}"


def load_efficiency(found: trace.Trace) -> float:
    """Percent: bytes wanted of global memory over bytes of the sectors touched, all loads together."""
    loads = found.requests("global", write=False)
    wanted = sum(len(set(lanes)) for lanes in loads) * trace.WORD
    return 100 * wanted / (sum(map(trace.sectors, loads)) * trace.SECTOR)


def faults(errors: int, thread: int | None) -> dict[str, float]:
    return {
        "errors_reported": errors,
        "faulting_thread": -1 if thread is None else thread,
        "detected_bool": float(errors > 0),
    }


def draw(params: Params, ctx: Context) -> None:
    """The picture of every point that is measured by now, from its trace: one warp's words in each of the banks."""
    bars = {}
    for row in read_rows(ctx.out / "rows.jsonl", ctx.spec):
        shared = trace.of(ctx.day / params.twin, row["point"]).requests("shared")
        title = ", ".join(f"{name} {value}" for name, value in row["point"].items())
        bars[title] = trace.words_per_bank(max(shared, key=trace.conflict_degree))
    picture.banks(bars, ctx.out / params.picture)
    ctx.say(f"{params.picture} drawn")
