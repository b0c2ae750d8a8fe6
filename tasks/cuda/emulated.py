"""Sectors and bank conflicts of a kernel from its emulation on the CPU: the source itself, thread by thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.api import UserError
from tasks.cuda import emulate
from tasks.cuda.emulate import Access
from tasks.cuda.points import Params, Value, filled
from tasks.cuda.source import Source

BACKEND = "address trace of the kernel run on the CPU"
SECTOR = 32  # bytes


def measure(source: Source, params: Params, axes: Mapping[str, Value]) -> tuple[dict[str, float], str]:
    """Metrics of the kernel at this point, and a note that says what was counted."""
    own = [word for axis, name in params.argv.items() for word in (name, str(axes[axis]))]
    defines = defined(source.build(axes).flags)
    found = emulate.emulate(
        source.file(axes), source.work / "cpu", [*params.emulated, *own], defines=defines, trace=True
    )
    kernel = filled(params.kernel, axes)
    mine = [one for one in found.accesses if one.kernel == kernel]
    if not mine:
        raise UserError(f"the run launches no kernel '{kernel}'", where=source.file(axes).name)
    metrics: dict[str, float] = {}
    if "sectors" in params.measures:
        metrics |= sectors([one for one in mine if one.space == "global"])
    if "banks" in params.measures:
        metrics["bank_conflict_degree"] = ways([one for one in mine if one.space == "shared"])
    return metrics, f"{sum(one.requests for one in mine)} warp requests of {kernel}, {' '.join(params.emulated)}"


def sectors(accesses: Sequence[Access]) -> dict[str, float]:
    """Mean sectors per warp request; percent of the loaded sectors' bytes that were asked for."""
    loads = [one for one in accesses if not one.store]
    if not loads:
        raise UserError("the kernel loads nothing from global memory")
    return {
        "sectors_per_warp": sum(one.sectors for one in accesses) / sum(one.requests for one in accesses),
        "load_efficiency_pct": 100
        * sum(one.useful_bytes for one in loads)
        / sum(one.sectors * SECTOR for one in loads),
    }


def ways(accesses: Sequence[Access]) -> float:
    """Mean passes per request of shared memory: 1 is no conflict."""
    if not accesses:
        raise UserError("the kernel never touches shared memory")
    return sum(one.ways for one in accesses) / sum(one.requests for one in accesses)


def defined(flags: Sequence[str]) -> dict[str, str | int]:
    """The -DNAME=value among the compiler's options; the others mean something to nvcc only."""
    pairs = (flag.removeprefix("-D").partition("=") for flag in flags if flag.startswith("-D"))
    return {name: value or 1 for name, _, value in pairs}
