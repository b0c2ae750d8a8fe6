"""Run a compiled program on a GPU, read the JSON lines that it prints, and refuse what the GPU cannot have done."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.cuda.device import Gpu

RUN_S = 300
TOLERANCE = 1.05  # clocks and timers are not exact
CACHED = 4  # working sets up to so many times the L2 cache are partly served by it


def run(program: Path, argv: Sequence[str], timeout_s: float = RUN_S) -> list[dict[str, Any]]:
    """The measurements of one run. UserError with the program's own message when it fails or finds a wrong result."""
    command = [str(program), *argv]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise UserError(f"took more than {timeout_s:g} s", where=" ".join([program.name, *argv])) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
        raise UserError(said[-1], where=" ".join([program.name, *argv]))
    return parse(done.stdout, program.name)


def parse(text: str, where: str) -> list[dict[str, Any]]:
    """The JSON lines of a program's stdout. UserError when there are none, or one says that its result is wrong."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    except ValueError as error:
        raise UserError(f"a line of its output is no JSON: {error}", where=where) from None
    if not found:
        raise UserError("it printed no measurement", where=where)
    for one in found:
        if one.get("correct") is not True:
            raise UserError(f"wrong result (error {one.get('max_abs_error')}): {one.get('kernel')}", where=where)
    return found


def one(program: Path, argv: Sequence[str], gpu: Gpu, *, tensor: bool = False) -> dict[str, Any]:
    """The single measurement that these arguments ask for, plausible on this GPU."""
    found = run(program, argv)
    if len(found) != 1:
        raise UserError(f"{len(found)} measurements instead of one", where=" ".join([program.name, *argv]))
    plausible(found[0], gpu, tensor=tensor)
    return found[0]


def plausible(measured: dict[str, Any], gpu: Gpu, *, tensor: bool = False) -> None:
    """UserError when a sample beats the roofline: bytes faster than the memory, operations faster than the cores."""
    samples = measured.get("samples_us") or []
    if not samples:
        return
    fastest = min(samples) * 1e-6
    if not fastest > 0:
        raise UserError(f"a sample of {min(samples)} us is no time", where=str(measured.get("kernel")))
    moved = float(measured.get("bytes", 0))
    ceiling = gpu.l2_gb_s if moved <= CACHED * gpu.l2_bytes else gpu.memory_gb_s
    for figure, most, unit in (
        (moved / fastest / 1e9, ceiling, "GB/s"),
        (float(measured.get("flops", 0)) / fastest / 1e9, gpu.gflops(tensor=tensor), "GFLOPS"),
    ):
        if figure > TOLERANCE * most:
            raise UserError(
                f"{figure:.0f} {unit} is more than {gpu.name} can do ({most:.0f}): the timing or the count is wrong",
                where=str(measured.get("kernel")),
            )
