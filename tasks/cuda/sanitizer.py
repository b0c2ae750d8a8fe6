"""compute-sanitizer (cuda-memcheck until CUDA 12): its command line and what it reports."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.api import UserError

Tool = Literal["memcheck", "racecheck", "initcheck", "synccheck"]
SUMMARY = re.compile(
    r"ERROR SUMMARY: (\d+) errors?|RACECHECK SUMMARY: \d+ hazards? displayed \((\d+) errors?, (\d+) warnings?\)"
)
THREAD = re.compile(r"by thread \((\d+),(\d+),(\d+)\) in block \((\d+),(\d+),(\d+)\)")
KIND = re.compile(r"^=+ (Invalid .*|Race reported.*|Error: .*)$", re.M)
RUN_S = 300


@dataclass(frozen=True)
class Report:
    """How many errors, the first one's text and thread, its block."""

    errors: int
    first: str = ""
    thread: tuple[int, int, int] | None = None
    block: tuple[int, int, int] | None = None


def argv(program: Path, arguments: Sequence[str], tool: Tool = "memcheck") -> list[str]:
    return ["compute-sanitizer", "--tool", tool, "--print-limit", "100000", str(program), *arguments]


def check(program: Path, arguments: Sequence[str], tool: Tool = "memcheck") -> Report:
    """Run the program under the tool. The program's own exit code is not ours: a faulting one fails."""
    command = argv(program, arguments, tool)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S)
    except FileNotFoundError:
        raise UserError("compute-sanitizer is not here", remedy="it comes with the CUDA toolkit") from None
    return read(done.stdout + done.stderr)


def read(text: str) -> Report:
    """UserError when there is no summary: the tool itself did not get to its end."""
    summary = SUMMARY.search(text)
    if not summary:
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"compute-sanitizer gave no summary: {last}")
    errors = sum(int(one) for one in summary.groups() if one)
    kind, where = KIND.search(text), THREAD.search(text)
    numbers = [int(one) for one in where.groups()] if where else []
    return Report(
        errors,
        kind[1] if kind else "",
        (numbers[0], numbers[1], numbers[2]) if numbers else None,
        (numbers[3], numbers[4], numbers[5]) if numbers else None,
    )
