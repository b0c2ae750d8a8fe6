"""How much memory a piece of work takes at its peak: the GPU allocator's, or the process's resident set."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

MIB = 1024**2
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # glibc, malloc.h
RETURNED_AT = 64 * 1024  # tensors of this size and more go back to the system at once when they are freed
KEPT_UP_TO, TRIMMED_AT = 32 * MIB, 64 * MIB  # where glibc's own adjustment ends: fast, and memory is kept for later
LIBC = "libc.so.6"
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

Result = TypeVar("Result")


def peak_mib(work: Callable[[], Result], device: Any) -> tuple[Result, float]:
    """What `work` gives, and the MiB above what was in use before it."""
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        torch.cuda.synchronize()
        return result, (torch.cuda.max_memory_allocated() - before) / MIB
    with exact():
        CLEAR.write_text("5", encoding="ascii")  # proc(5): the peak is set back to what is resident now
        before_kib = resident_kib("VmRSS")
        result = work()
        return result, (resident_kib("VmHWM") - before_kib) / 1024


@contextmanager
def exact() -> Iterator[None]:
    """Inside, freed memory returns to the system at once: what is resident is what is in use. That costs time (every
    tensor's pages are new), so it ends with the block."""
    glibc = ctypes.CDLL(LIBC)
    glibc.mallopt(M_MMAP_THRESHOLD, RETURNED_AT)
    glibc.mallopt(M_TRIM_THRESHOLD, RETURNED_AT)
    glibc.malloc_trim(0)
    try:
        yield
    finally:
        glibc.mallopt(M_MMAP_THRESHOLD, KEPT_UP_TO)
        glibc.mallopt(M_TRIM_THRESHOLD, TRIMMED_AT)


def resident_kib(which: str) -> int:
    """A line of /proc/self/status: `VmRSS` (now) or `VmHWM` (the peak)."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:"))


def kept_mib(work: Callable[[], Result], device: Any) -> tuple[Result, float]:
    """What `work` gives, and the MiB that it keeps: still in use when it is done."""
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        result = work()
        torch.cuda.synchronize()
        return result, (torch.cuda.memory_allocated() - before) / MIB
    with exact():
        before_kib = resident_kib("VmRSS")
        result = work()
        gc.collect()
        ctypes.CDLL(LIBC).malloc_trim(0)
        return result, (resident_kib("VmRSS") - before_kib) / 1024
