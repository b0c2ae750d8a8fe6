"""Wall time of commands, in interleaved rounds: whatever disturbs the machine disturbs all of them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# As a user's shell has it: Python may keep its compiled modules.
ENV = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@dataclass(frozen=True)
class Case:
    """One command. `says` must be in what it prints, so that a broken command is never timed as a fast one."""

    name: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    says: str = ""
    before: Callable[[], None] = lambda: None


def interleaved(cases: Iterable[Case], rounds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds of each case, one value a round, after an uncounted round. Raises RuntimeError when one fails."""
    seconds: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for case in cases:
            say(f"round {number}/{rounds}: {case.name}" if number else f"warming up: {case.name}")
            took = once(case)
            if number:
                seconds.setdefault(case.name, []).append(took)
    return seconds


def once(case: Case) -> float:
    case.before()
    began = time.perf_counter()
    done = subprocess.run(case.argv, cwd=case.cwd, env=case.env, capture_output=True, text=True)
    took = time.perf_counter() - began
    said = done.stdout + done.stderr
    if done.returncode or case.says not in said:
        raise RuntimeError(f"{case.name}: exit code {done.returncode}, '{case.says}' is not in:\n{said[-2000:]}")
    return took
