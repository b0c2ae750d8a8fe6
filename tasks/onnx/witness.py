"""Run a script that uses ONNX Runtime and write down what its sessions really did.

`python -m tasks.onnx.witness <report.json> <script> [arguments]`: the script runs as it is; every session that it makes
is noted with the options it was given, and every run with its time. Nothing is taken on the script's word.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.onnx.probe import peak_rss_mb

ROOT = Path(__file__).parents[2]
KEPT = 100_000  # numbers of the first images that are kept, with their logits, to be compared
LEVELS = {"ORT_DISABLE_ALL": "disable_all", "ORT_ENABLE_BASIC": "basic", "ORT_ENABLE_EXTENDED": "extended",
          "ORT_ENABLE_LAYOUT": "layout", "ORT_ENABLE_ALL": "all"}  # fmt: skip


@dataclass
class Session:
    """One session: its graph optimisation level, threads, providers, milliseconds to make it, its runs.

    `runs` holds [batch, milliseconds] of each run, `fed` and `gave` the first images and their logits.
    """

    level: str
    threads: int
    providers: list[str]
    load_ms: float
    runs: list[tuple[int, float]] = field(default_factory=list)
    fed: list[Any] = field(default_factory=list)
    gave: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Account:
    """How the script ended (`returncode`, its output) and what its sessions did."""

    returncode: int
    stdout: str
    stderr: str
    sessions: list[Session]
    peak_rss_mb: float


def run(script: Path, arguments: Sequence[str], report: Path, timeout_s: float = 300) -> Account:
    """Run the script in a process of its own, under witness. A script that crashes is an account, too."""
    argv = [sys.executable, "-m", "tasks.onnx.witness", str(report), str(script), *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    report.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return Account(124, "", f"not done within {timeout_s:.0f} s", [], 0.0)
    told: dict[str, Any] = {"sessions": [], "peak_rss_mb": 0.0}
    if report.exists():
        told = json.loads(report.read_text(encoding="utf-8"))
    sessions = [Session(**one) for one in told["sessions"]]
    return Account(done.returncode, done.stdout, done.stderr, sessions, told["peak_rss_mb"])


def predictions(stdout: str, count: int, script: str) -> Any:
    """The digits that a script printed, int64 [count]. UserError when they are not there."""
    import numpy

    try:
        named = numpy.array(json.loads(stdout.splitlines()[-1])["predictions"], numpy.int64)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"its last line has no predictions: {error!r}", where=script) from error
    if named.shape != (count,):
        raise UserError(f"it printed {named.size} predictions for {count} images", where=script)
    return named


def watch(seen: list[Session]) -> None:
    """Replace ONNX Runtime's session class by one that notes into `seen`."""
    import onnxruntime

    original = onnxruntime.InferenceSession

    def begin(self: Any, model: Any, sess_options: Any = None, *more: Any, **named: Any) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        began = time.perf_counter()
        original.__init__(self, model, options, *more, **named)
        took = (time.perf_counter() - began) * 1000
        level = LEVELS.get(options.graph_optimization_level.name, options.graph_optimization_level.name)
        self.witnessed = Session(level, options.intra_op_num_threads, list(self.get_providers()), took)
        seen.append(self.witnessed)

    def answer(self: Any, outputs: Any, feeds: Mapping[str, Any], *more: Any) -> Any:
        began = time.perf_counter()
        found = original.run(self, outputs, feeds, *more)
        took = (time.perf_counter() - began) * 1000
        given, notes = next(iter(feeds.values())), self.witnessed
        notes.runs.append((len(given), took))
        if sum(array.size for array in notes.fed) < KEPT:
            notes.fed.append(given.copy())
            notes.gave.append(found[0])
        return found

    onnxruntime.InferenceSession = type("InferenceSession", (original,), {"__init__": begin, "run": answer})


def main(report: str, script: str, *arguments: str) -> None:
    seen: list[Session] = []
    watch(seen)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        peak = peak_rss_mb()
        for one in seen:
            one.fed, one.gave = ([row for array in kept for row in array.tolist()] for kept in (one.fed, one.gave))
        told = {"sessions": [asdict(one) for one in seen], "peak_rss_mb": peak}
        Path(report).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
