"""Compile a C++ file for this machine's CPU with g++, as strictly as its deliverable promises."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tasks.api import UserError
from tasks.cuda import toolchain

OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-Wall")
COMPILE_S = 120


def compile_host(source: Path, work: Path, *, clean: bool = False) -> Path:
    """The executable. UserError with file and line at the first error; with `clean` at the first warning too."""
    if not source.is_file() or not source.stat().st_size:
        raise UserError("the file is missing or empty", where=source.name)
    work.mkdir(parents=True, exist_ok=True)
    out = work / source.stem
    argv = ["g++", *OPTIONS, *(["-Werror"] if clean else []), str(source), "-o", str(out)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_S)
    if done.returncode:
        raise toolchain.complaint(done.stderr, source.name)
    return out
