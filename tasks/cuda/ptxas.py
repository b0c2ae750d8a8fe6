"""What `-Xptxas -v` says of each kernel: registers, shared memory, stack, spills."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.api import UserError

ENTRY = re.compile(r"Compiling entry function '(?P<symbol>[^']+)' for '(?P<arch>sm_\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
CONSTANT = re.compile(r"(\d+) bytes cmem\[3\]")


@dataclass(frozen=True)
class Usage:
    """Static resources of one kernel: registers per thread, the rest in bytes (stack and spills per thread).

    `smem_bytes` is the static shared memory of a block, without what a launch adds (extern __shared__).
    """

    name: str  # "mmul_tiled<16>", demangled, without return type and parameters
    symbol: str
    arch: str
    registers: int
    smem_bytes: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int

    @property
    def spill_bytes(self) -> int:
        return self.spill_store_bytes + self.spill_load_bytes


def read(said: str) -> tuple[Usage, ...]:
    """Every kernel of a compiler's output, in its order."""
    parts = ENTRY.split(said)[1:]
    symbols, arches, texts = parts[0::3], parts[1::3], parts[2::3]
    names = demangled(symbols)
    return tuple(_usage(*four) for four in zip(names, symbols, arches, texts, strict=True))


def _usage(name: str, symbol: str, arch: str, text: str) -> Usage:
    used, spills, shared = USED.search(text), SPILLS.search(text), SHARED.search(text)
    if not used or not spills:
        raise UserError(f"ptxas reports no registers for {name}", remedy="an nvcc of CUDA 12 or 13 does")
    stack, stores, loads = map(int, spills.groups())
    return Usage(name, symbol, arch, int(used[1]), int(shared[1]) if shared else 0, stack, stores, loads)


def pick(kernels: Sequence[Usage], name: str = "") -> Usage:
    """The kernel called `name`; "mmul" also means the only one of "mmul<16>", …; no name: the only kernel."""
    found = [one for one in kernels if one.name == name]
    found = found or [one for one in kernels if not name or one.name.partition("<")[0] == name]
    if len(found) != 1:
        have = ", ".join(one.name for one in kernels) or "none"
        raise UserError(f"{len(found) or 'no'} kernels are called '{name}'", remedy=f"the file has: {have}")
    return found[0]


def demangled(symbols: Sequence[str]) -> list[str]:
    """Kernel names without return type and parameters; c++filt is in binutils, which a host compiler brings."""
    if not symbols:
        return []
    done = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True, timeout=30)
    return [_bare(line) for line in done.stdout.splitlines()]


def _bare(signature: str) -> str:
    """`void a::mmul<16, (bool)1>(float const*)` → `mmul<16, 1>`."""
    plain = re.sub(r"\((?:bool|int|unsigned int|long|unsigned long)\)(?=[\w-])", "", signature)
    plain = plain.replace("(anonymous namespace)::", "")
    depth = 0
    for at, letter in enumerate(plain):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and not depth:
            plain = plain[:at]
            break
    head, bracket, rest = plain.partition("<")
    return head.split(" ")[-1].split("::")[-1] + bracket + rest
