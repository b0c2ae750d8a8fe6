"""What the compiler alone can say of a kernel: registers, spills, occupancy, instructions."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.cuda import occupancy, sass, toolchain
from tasks.cuda.points import Params, Value, filled
from tasks.cuda.source import Source, kernel_lines


def threads(params: Params, axes: Mapping[str, Value]) -> int:
    """Threads per block at this point: the axis block_dim, or what `blocks` says of another axis, or `block`."""
    for axis, table in params.blocks.items():
        if str(axes[axis]) in table:
            return table[str(axes[axis])]
    return int(axes.get("block_dim", params.block))


def measure(source: Source, params: Params, axes: Mapping[str, Value]) -> tuple[dict[str, float], str]:
    """Metrics of the kernel at this point, and a note that says by which compiler and for what."""
    compiled = source.cubin(axes)
    usage = compiled.kernel(filled(params.kernel, axes))
    block = threads(params, axes)
    held = occupancy.theoretical(usage.registers, usage.smem_bytes + params.dynamic_smem, block, compiled.arch)
    code = sass.kernels(compiled.file)[usage.symbol]
    ptx = sass.ptx_opcodes(toolchain.ptx(source.build(axes), source.work), usage.symbol)
    metrics: dict[str, float] = {
        "registers_per_thread": usage.registers,
        "smem_bytes": usage.smem_bytes + params.dynamic_smem,
        "spill_bytes": usage.spill_bytes,
        "theoretical_occupancy_pct": held.pct,
        "sass_instructions": code.total,
        "sass_branches": code.branches,
        "ptx_branches": ptx.get("bra", 0),
        "ptx_selp": ptx.get("selp", 0),
        "source_lines": kernel_lines(source.file(axes), usage.name),
    }
    note = f"{usage.name}, {compiled.compiler}, {compiled.arch}, block of {block}, limited by {held.limited_by}"
    return metrics, note
