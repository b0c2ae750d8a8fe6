"""Latency and peak memory of one shape in a process of its own: nothing but ONNX Runtime and numpy is loaded there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.api import UserError

ROOT = Path(__file__).parents[2]
INPUT_POOL = 8


@dataclass(frozen=True)
class Shape:
    """What to time: `batch` texts of `length` tokens, for `budget_s` seconds."""

    batch: int
    length: int
    budget_s: float
    threads: int = 1
    seed: int = 90


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each run, and the process's peak resident memory in MB (10^6 bytes)."""

    samples: list[float]
    peak_rss_mb: float


def run(file: Path, shape: Shape) -> Timing:
    """Time `file` in a child process. UserError with the child's last words when it fails."""
    argv = [sys.executable, "-m", "tasks.onnx.probe", str(file), json.dumps(asdict(shape))]
    done = subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"ONNX Runtime could not run it: {done.stderr.strip().splitlines()[-1]}", where=str(file))
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def peak_rss_mb() -> float:
    """VmHWM of this process. (getrusage would count the parent's memory before the exec, too.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kib) * 1024 / 1e6


def main(file: str, shape_json: str) -> None:
    from tasks.models import reviews
    from tasks.onnx import graph
    from tasks.services import timing

    shape = Shape(**json.loads(shape_json))
    texts = reviews.texts(shape.batch * INPUT_POOL, shape.length, seed=shape.seed, test=True, full=True)
    parts = [slice(at, at + shape.batch) for at in range(0, len(texts.labels), shape.batch)]
    inputs = [(texts.ids[part], texts.mask[part]) for part in parts]
    samples = timing.repeat(graph.runtime(Path(file), shape.threads), inputs, shape.budget_s)
    print(json.dumps(asdict(Timing(samples, peak_rss_mb()))))


if __name__ == "__main__":
    main(*sys.argv[1:])
