"""Theoretical occupancy: how many warps a multiprocessor can hold, of those it could hold at most.

Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". Rounding: NVIDIA's
cuda_occupancy.h (registers per warp in units of 256, warps in fours, shared memory in units of 128 bytes, 1 KiB of
shared memory reserved by the system for each block since compute capability 8.0). tests/tasks/test_cuda.py compares
this with that header.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tasks.api import UserError

WARP = 32
REGISTER_UNIT, WARP_GRANULARITY, SHARED_UNIT, RESERVED = 256, 4, 128, 1024
MAX_THREADS, MAX_REGISTERS = 1024, 255


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor has."""

    warps: int
    blocks: int
    shared_bytes: int
    registers: int = 65536


LIMITS = {
    "sm_80": Limits(warps=64, blocks=32, shared_bytes=164 * 1024),
    "sm_86": Limits(warps=48, blocks=16, shared_bytes=100 * 1024),
    "sm_89": Limits(warps=48, blocks=24, shared_bytes=100 * 1024),
    "sm_90": Limits(warps=64, blocks=32, shared_bytes=228 * 1024),
}


@dataclass(frozen=True)
class Occupancy:
    """`pct` is active_warps / the most warps * 100; `limited_by` is the resource that runs out first."""

    pct: float
    blocks: int
    active_warps: int
    limited_by: Literal["warps", "blocks", "registers", "shared memory"]


def theoretical(registers: int, smem_bytes: int, block: int, arch: str) -> Occupancy:
    """Of a kernel with `registers` per thread and `smem_bytes` per block (static and dynamic), `block` threads.

    UserError when a block does not fit at all or the architecture is unknown.
    """
    if arch not in LIMITS:
        raise UserError(f"no occupancy limits for {arch}", remedy=f"known: {', '.join(LIMITS)}")
    if not 1 <= block <= MAX_THREADS:
        raise UserError(f"a block of {block} threads is not between 1 and {MAX_THREADS}")
    limits = LIMITS[arch]
    warps = math.ceil(block / WARP)
    per_warp = math.ceil(max(registers, 1) * WARP / REGISTER_UNIT) * REGISTER_UNIT
    held = limits.registers // per_warp // WARP_GRANULARITY * WARP_GRANULARITY  # warps that the registers suffice for
    shared = math.ceil((smem_bytes + RESERVED) / SHARED_UNIT) * SHARED_UNIT
    allowed: dict[Literal["warps", "blocks", "registers", "shared memory"], int] = {
        "warps": limits.warps // warps,
        "blocks": limits.blocks,
        "registers": held // warps,
        "shared memory": limits.shared_bytes // shared,
    }
    limit = min(allowed, key=lambda name: allowed[name])
    blocks = allowed[limit]
    if not blocks:
        raise UserError(f"not one block of {block} threads fits: too few {limit}" if limit != "shared memory"
                        else f"a block's {smem_bytes} bytes of shared memory do not fit on {arch}")  # fmt: skip
    return Occupancy(100 * blocks * warps / limits.warps, blocks, blocks * warps, limit)
