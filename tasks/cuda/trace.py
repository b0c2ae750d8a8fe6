"""Which addresses each warp asks for: a Python twin of a kernel in numba's CUDA simulator, on arrays that keep note.

What is counted are the twin's index expressions, thread by thread; no time is measured and no cache is modelled.

A *twin file* has a function `launch(trace, axes)`, which makes arrays with `trace.array` and `trace.shared`, runs its
kernel with `trace.run(kernel, grid, block, *arguments)` and returns the result with what it should be. Kernels are
plain functions that use `from numba import cuda` (threadIdx, blockIdx, syncthreads …). Shared memory is an argument.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.api import UserError

WARP, SECTOR, BANKS, WORD = 32, 32, 32, 4  # lanes, bytes, banks, bytes of a bank's word (cc 5.0 and later)
ALIGNED = 256  # cudaMalloc's alignment, bytes
Space = Literal["global", "shared"]
Lanes = list[int]  # byte addresses, one for each lane that takes part


@dataclass(frozen=True)
class Fault:
    """An access outside its array."""

    array: str
    index: tuple[int, ...]
    thread: tuple[int, int, int]
    block: tuple[int, int, int]
    write: bool


class Array:
    """A traced array: global memory, or shared memory with a copy for each block."""

    def __init__(self, name: str, values: Any, space: Space, base: int, trace: Trace) -> None:
        self.name, self.values, self.space, self.base, self.trace = name, values, space, base, trace
        self.copies: dict[tuple[int, ...], Any] = {}

    def __getitem__(self, index: int | tuple[int, ...]) -> Any:
        at = self._note(index, write=False)
        return self.values.dtype.type(0) if at is None else self._here()[at]

    def __setitem__(self, index: int | tuple[int, ...], value: Any) -> None:
        at = self._note(index, write=True)
        if at is not None:
            self._here()[at] = value

    def _here(self) -> Any:
        if self.space == "global":
            return self.values
        return self.copies.setdefault(_block(), self.values.copy())

    def _note(self, index: int | tuple[int, ...], *, write: bool) -> tuple[int, ...] | None:
        at = tuple(int(one) for one in (index if isinstance(index, tuple) else (index,)))
        inside = len(at) == self.values.ndim and all(
            0 <= one < size for one, size in zip(at, self.values.shape, strict=True)
        )
        if not inside:
            self.trace.faults.append(Fault(self.name, at, _thread(), _block(), write))
            return None
        offset = sum(one * stride for one, stride in zip(at, self.values.strides, strict=True))
        line = sys._getframe(2).f_lineno  # in the kernel; several accesses of one line are told apart by their turn
        self.trace.note(self, (line, write), self.base + offset)
        return at


@dataclass
class Trace:
    """One launch's accesses. `requests` are warp-wide: same warp, same instruction, same turn of its loop."""

    faults: list[Fault] = field(default_factory=list)
    _requests: dict[tuple[Any, ...], Lanes] = field(default_factory=lambda: defaultdict(list))
    _turns: dict[tuple[Any, ...], int] = field(default_factory=lambda: defaultdict(int))
    _next: dict[Space, int] = field(default_factory=lambda: {"global": 0, "shared": 0})

    def array(self, name: str, values: Any) -> Array:
        """Global memory with these values (a numpy array), aligned as cudaMalloc aligns."""
        return self._place(name, values, "global", ALIGNED)

    def shared(self, name: str, shape: int | tuple[int, ...], dtype: str = "float32") -> Array:
        """`__shared__ T name[…]`, zeroed; shared arrays follow each other without gaps."""
        import numpy

        return self._place(name, numpy.zeros(shape, dtype), "shared", WORD)

    def _place(self, name: str, values: Any, space: Space, align: int) -> Array:
        base = self._next[space]
        self._next[space] = -(-(base + values.nbytes) // align) * align
        return Array(name, values, space, base, self)

    def note(self, array: Array, site: tuple[int, bool], address: int) -> None:
        thread = threading.current_thread()
        number: int = thread.thread_id  # type: ignore[attr-defined]  # the simulator's threads have it
        mine = (array.space, array.name, site, _block(), number)
        self._turns[mine] += 1
        self._requests[array.space, array.name, site, _block(), number // WARP, self._turns[mine]].append(address)

    def run(self, kernel: Callable[..., None], grid: Any, block: Any, *arguments: Any) -> None:
        """Every thread of the launch, one block after the other."""
        simulator()
        from numba import cuda

        cuda.jit(kernel)[grid, block](*arguments)

    def requests(self, space: Space, *, write: bool | None = None) -> list[Lanes]:
        """All of a space, or only its loads (`write=False`) or stores."""
        return [
            lanes for key, lanes in self._requests.items() if key[0] == space and (write is None or key[2][1] == write)
        ]


def sectors(lanes: Sequence[int]) -> int:
    """32-byte sectors that one warp's addresses touch: 4 is the least for 32 floats."""
    return len({address // SECTOR for address in lanes})


def conflict_degree(lanes: Sequence[int]) -> int:
    """How often shared memory must serve one request: most *different* words wanted of one bank (1: no conflict).

    Source: CUDA C++ Programming Guide, "Shared Memory" (compute capability 5.x and later): 32 banks, successive
    32-bit words in successive banks, the same word is broadcast.
    """
    return max(words_per_bank(lanes))


def words_per_bank(lanes: Sequence[int]) -> list[int]:
    """For each of the 32 banks the number of different words that the warp wants of it."""
    words = {address // WORD for address in lanes}
    return [sum(word % BANKS == bank for word in words) for bank in range(BANKS)]


def of(twin: Path, axes: Mapping[str, Any]) -> Trace:
    """The trace of the twin file's launch at one point. UserError when it fails or computes something wrong."""
    import numpy

    trace = Trace()
    module = load(twin)
    try:
        result, expected = module.launch(trace, dict(axes))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{type(error).__name__}: {error}", where=f"{twin.name}:{_line(error, twin)}") from error
    if not trace.faults and not numpy.allclose(result, expected, rtol=1e-5, atol=1e-6):
        worst = float(numpy.abs(numpy.asarray(result) - expected).max())
        raise UserError(f"the twin's result is wrong by {worst:.2e} at {dict(axes)}", where=twin.name)
    return trace


def load(twin: Path) -> Any:
    """The twin file as a module, with numba as a simulator."""
    simulator()
    spec = importlib.util.spec_from_file_location(twin.stem, twin)
    if not twin.is_file() or spec is None or spec.loader is None:
        raise UserError("the twin file is not there", where=twin.name)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{type(error).__name__}: {error}", where=f"{twin.name}:{_line(error, twin)}") from error
    if not callable(getattr(module, "launch", None)):
        raise UserError("no function launch(trace, axes)", where=twin.name)
    return module


def simulator() -> None:
    """numba decides at its import; this process has not imported it yet."""
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"


def _line(error: BaseException, twin: Path) -> int:
    """The line in the twin file nearest to the error."""
    at, line = error.__traceback__, getattr(error, "lineno", None) or 0
    while at:
        line = at.tb_lineno if at.tb_frame.f_code.co_filename == str(twin) else line
        at = at.tb_next
    return line


def _thread() -> tuple[int, int, int]:
    index = threading.current_thread().threadIdx  # type: ignore[attr-defined]  # the simulator's threads have it
    return index.x, index.y, index.z


def _block() -> tuple[int, int, int]:
    index = threading.current_thread().blockIdx  # type: ignore[attr-defined]
    return index.x, index.y, index.z
