"""Load from NVIDIA's perf_analyzer (in the `tritonclient` wheel): latencies of single requests and throughput."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from tasks.api import Spread, UserError

LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
LENGTHENING = (1, 3, 9)
WINDOWS = 3  # of perf_analyzer's result

SILENCE = "No valid requests recorded within time interval"
ANY_PCT = 1_000_000  # perf_analyzer reports nothing about windows that disagree, so the agreement is judged here


class SilentError(UserError):
    """No request was answered in one of the windows: they are too short for this model on this machine now."""


@dataclass(frozen=True)
class Plan:
    """One load. `inputs` are single requests without the batch axis (tensor name -> array), taken in turn.

    A measurement is three windows; while their throughputs and mean latencies differ by more than `stability_pct`,
    it is repeated, at most `attempts` times in all; windows without an answer are made longer. perf_analyzer keeps the
    inputs of every request: keep them small.
    """

    model: str
    inputs: Sequence[Mapping[str, Any]]
    concurrency: int = 1
    batch: int = 1
    window_ms: int = 400
    attempts: int = 2
    stability_pct: float = 25
    protocol: Literal["grpc", "http"] = "grpc"  # what the server's address speaks


@dataclass(frozen=True)
class Load:
    """What the clients saw: inferences per second and each request's latency (ms) in the last attempt."""

    throughput_rps: float
    latencies_ms: Sequence[float]
    stable: bool

    @property
    def latency(self) -> Spread:
        return spread(self.latencies_ms)

    @property
    def note(self) -> str:
        return "" if self.stable else "perf_analyzer: the windows still differed after the last attempt"


@dataclass(frozen=True)
class Run:
    """One run of perf_analyzer: (sent, answered) of each request and the edges of its windows, unix time in ns."""

    requests: Sequence[tuple[int, int]]
    edges: Sequence[int]


def measure(plan: Plan, grpc: str) -> Load:
    """Put the load on the server at `grpc` until the windows agree or the attempts are spent.

    UserError with perf_analyzer's own message when it cannot measure.
    """
    return measure_together([plan], grpc)[0]


def measure_together(plans: Sequence[Plan], grpc: str) -> list[Load]:
    """Put several loads on the server at the same time; only what happened while all of them ran counts."""
    for _ in range(max(plan.attempts for plan in plans)):
        loads = observe(plans, grpc)
        if all(load.stable for load in loads):
            break
    return loads


def observe(plans: Sequence[Plan], grpc: str) -> list[Load]:
    """All loads once, at the same time; with longer windows when one of them saw no answer in a window."""
    for longer in LENGTHENING:
        try:
            longer_plans = [replace(plan, window_ms=plan.window_ms * longer) for plan in plans]
            with ThreadPoolExecutor(len(plans)) as pool:
                runs = list(pool.map(lambda plan: attempt(plan, grpc), longer_plans))
            low, high = max(run.edges[0] for run in runs), min(run.edges[-1] for run in runs)
            return [summarise(plan, run, low, high) for plan, run in zip(plans, runs, strict=True)]
        except SilentError as error:
            silent = error
    raise silent


def attempt(plan: Plan, grpc: str) -> Run:
    """One run of perf_analyzer."""
    with tempfile.TemporaryDirectory(prefix="perf-analyzer-") as folder:
        work = Path(folder)
        export = work / "requests.json"
        argv = ["setpriv", "--pdeathsig", "KILL", "--", str(find_binary()), *arguments(plan, grpc, work, export)]
        budget_s = 30 + plan.window_ms * WINDOWS / 1000 * 3
        environment = {**os.environ, "LD_LIBRARY_PATH": str(link_libraries(work))}
        try:
            done = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=budget_s
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"perf_analyzer on {plan.model} took more than {budget_s:.0f} s") from error
        if done.returncode or not export.exists():
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            kind = SilentError if any(SILENCE in line for line in said) else UserError
            raise kind(f"perf_analyzer could not measure {plan.model}: " + "\n".join(said[-4:]))
        run = json.loads(export.read_text(encoding="utf-8"))["experiments"][0]
    requests = sorted((one["timestamp"], one["response_timestamps"][-1]) for one in run["requests"])
    return Run(requests[plan.concurrency :], run["window_boundaries"])  # each connection's first request also opens it


def arguments(plan: Plan, grpc: str, work: Path, export: Path) -> list[str]:
    """perf_analyzer's command line; writes the input file it names."""
    data = [{name: array.ravel().tolist() for name, array in request.items()} for request in plan.inputs]
    shapes = {name: ",".join(map(str, array.shape)) for name, array in plan.inputs[0].items()}
    (work / "inputs.json").write_text(json.dumps({"data": data}), encoding="utf-8")
    return [
        "-m", plan.model, "-u", grpc, "-i", plan.protocol, "-b", str(plan.batch),
        "--concurrency-range", str(plan.concurrency), "--input-data", str(work / "inputs.json"),
        *(part for name, shape in shapes.items() for part in ("--shape", f"{name}:{shape}")),
        "-p", str(plan.window_ms), "-r", str(WINDOWS), "-s", str(ANY_PCT),
        "--profile-export-file", str(export),
    ]  # fmt: skip


def summarise(plan: Plan, run: Run, low: int, high: int) -> Load:
    """The requests answered between `low` and `high` (ns), in three windows whose agreement is judged."""
    edges = [low + (high - low) * i // WINDOWS for i in range(WINDOWS + 1)]
    windows = [[(end - begin) / 1e6 for begin, end in run.requests if a < end <= b] for a, b in pairwise(edges)]
    if high <= low or not all(windows):
        raise SilentError(f"perf_analyzer saw no answers of {plan.model} in a window of {plan.window_ms} ms")
    rates, means = [len(window) for window in windows], [fmean(window) for window in windows]
    stable = all(max(figures) <= min(figures) * (1 + plan.stability_pct / 100) for figures in (rates, means))
    latencies = [ms for window in windows for ms in window]
    throughput = len(latencies) * plan.batch / ((high - low) / 1e9)
    return Load(throughput, latencies, stable)


def spread(samples: Sequence[float]) -> Spread:
    """Sample count, percentiles and standard deviation of latencies."""
    import numpy

    percentiles: list[float] = numpy.percentile(samples, [50, 95, 99]).tolist()
    p50, p95, p99 = percentiles
    return Spread(len(samples), p50, p95, p99, float(numpy.std(samples)))


def find_binary() -> Path:
    """perf_analyzer of the running environment, else of the PATH (NGC SDK image)."""
    own = Path(sys.executable).parent / "perf_analyzer"
    found = own if own.exists() else shutil.which("perf_analyzer")
    if not found:
        raise UserError("no perf_analyzer found", remedy="pip install tritonclient[all]==2.50.0 (the last with it)")
    return Path(found)


def link_libraries(work: Path) -> Path:
    """A folder with the two libraries the wheel's binary needs, linked to nvidia-pytriton's copies."""
    folder = work / "lib"
    folder.mkdir()
    spec = importlib.util.find_spec("pytriton")
    if spec and spec.origin:
        bundled = Path(spec.origin).parents[1] / "nvidia_pytriton.libs"
        for name, pattern in LIBRARIES.items():
            for source in bundled.glob(pattern):
                (folder / name).symlink_to(source)
    return folder
