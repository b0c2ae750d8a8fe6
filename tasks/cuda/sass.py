"""The machine code of a cubin, through cuobjdump and nvdisasm, and the PTX: instructions counted by opcode."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.api import UserError
from tasks.cuda import toolchain

FUNCTION = re.compile(r"^\s*Function : (\S+)", re.M)
INSTRUCTION = re.compile(
    r"^\s*/\*(?P<at>[0-9a-f]+)\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<opcode>[A-Z][A-Z0-9_.]*)(?P<operands>[^;]*);", re.M
)
PTX_ENTRY = re.compile(r"\.entry\s+(\w+)")
PTX_INSTRUCTION = re.compile(r"^\s*(?:@!?%p\d+\s+)?([a-z][a-z0-9_]*)(?:\.[\w:]+)*[\s;]", re.M)


@dataclass(frozen=True)
class Code:
    """One kernel's instructions, in order; `opcodes` counts them without modifiers ("FFMA", "BRA", "LDG")."""

    instructions: tuple[str, ...]
    opcodes: Mapping[str, int]

    @property
    def total(self) -> int:
        return len(self.instructions)

    def count(self, *names: str) -> int:
        return sum(self.opcodes.get(name, 0) for name in names)

    @property
    def branches(self) -> int:
        """Jumps that a program takes: the endless loop behind the last EXIT is a trap, not a branch."""
        return self.count("BRA", "BRX", "JMP", "CALL")


def kernels(cubin: Path) -> dict[str, Code]:
    """Each function's symbol (as in Usage.symbol) → its code. UserError when the file cannot be disassembled."""
    argv = [str(toolchain.tool("cuobjdump")), "-sass", str(cubin)]
    path = {"PATH": f"{toolchain.tool('nvdisasm').parent}:/usr/bin:/bin"}  # cuobjdump calls nvdisasm
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=path)
    if done.returncode:
        raise UserError(f"cuobjdump: {done.stderr.strip() or done.stdout.strip()}", where=cubin.name)
    return read(done.stdout)


def read(text: str) -> dict[str, Code]:
    """The same from the text of `cuobjdump -sass`."""
    parts = FUNCTION.split(text)[1:]
    return {symbol: _code(body) for symbol, body in zip(parts[0::2], parts[1::2], strict=True)}


def _code(body: str) -> Code:
    found = [(one["at"], one["opcode"], (one["guard"] or "") + one["opcode"] + one["operands"])
             for one in INSTRUCTION.finditer(body)]  # fmt: skip
    kept = [(opcode, text.strip()) for at, opcode, text in found if not _padding(at, opcode, text)]
    return Code(tuple(text for _, text in kept), Counter(opcode.partition(".")[0] for opcode, _ in kept))


def _padding(at: str, opcode: str, text: str) -> bool:
    """NOPs at the end, the jump to itself before them, and what stands beside LDGSTS but is guarded by `never`."""
    jump = re.search(r"0x([0-9a-f]+)\s*$", text)
    return (
        opcode == "NOP"
        or text.startswith("@!PT")
        or (opcode == "BRA" and jump is not None and int(jump[1], 16) == int(at, 16))
    )


def ptx_opcodes(text: str, symbol: str) -> Mapping[str, int]:
    """Instructions of one kernel in PTX, counted by name without modifiers ("selp", "bra", "fma")."""
    parts = PTX_ENTRY.split(text)[1:]
    bodies = dict(zip(parts[0::2], parts[1::2], strict=True))
    if symbol not in bodies:
        raise UserError(f"the PTX has no kernel {symbol}", remedy=f"it has {', '.join(bodies) or 'none'}")
    body = bodies[symbol].partition("{")[2]
    return Counter(PTX_INSTRUCTION.findall(body))
