"""The benchmark program works; how fast anything is, is never a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_program_prints_its_table() -> None:
    tiny = ["--days", "2", "--records", "30", "--rounds", "1", "--no-peers"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *tiny], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    for what in ("nothing to do, a week", "per no-op experiment", "status, 30 records"):
        assert any(line.startswith(what) and "ms" in line for line in done.stdout.splitlines()), done.stdout
