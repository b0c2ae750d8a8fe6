"""Load from NVIDIA's perf_analyzer (in the `tritonclient` wheel): latencies of single requests and throughput."""

from __future__ import annotations

import csv
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
from pathlib import Path
from typing import Any

from tasks.api import Spread, UserError

LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}
WINDOWS = 3  # perf_analyzer's result is that of its last three windows, which agree within the stability percentage

ANY_PCT = 999
UNSTABLE = "Failed to obtain stable measurement"
SUMMARY, EXPORT = "summary.csv", "requests.json"


class UnstableError(Exception):
    """perf_analyzer's windows did not agree within the stability percentage."""


@dataclass(frozen=True)
class Plan:
    """One load. `inputs` are single requests without the batch axis (tensor name -> array), taken in turn."""

    model: str
    inputs: Sequence[Mapping[str, Any]]
    concurrency: int = 1
    batch: int = 1
    window_ms: int = 600
    max_windows: int = 6
    stability_pct: int = 25


@dataclass(frozen=True)
class Load:
    """What the clients saw: the latency of each request (ms) of the last windows, inferences per second.

    `seconds` is the time from the first request to the last answer, earlier windows included.
    """

    throughput_rps: float
    latencies_ms: Sequence[float]
    seconds: float
    stable: bool = True

    @property
    def latency(self) -> Spread:
        return spread(self.latencies_ms)

    @property
    def note(self) -> str:
        return "" if self.stable else "perf_analyzer: the windows did not agree within its stability percentage"


def measure(plan: Plan, grpc: str) -> Load:
    """Run perf_analyzer against the server at `grpc` until its windows agree, or its budget of windows is spent.

    UserError with its own message when it cannot measure.
    """
    try:
        return attempt(plan, grpc)
    except UnstableError:  # it reports nothing then: take the last windows as they are, and say so
        load = attempt(replace(plan, stability_pct=ANY_PCT, max_windows=WINDOWS), grpc)
        return replace(load, stable=False)


def attempt(plan: Plan, grpc: str) -> Load:
    """One run of perf_analyzer. Raises UnstableError when its windows did not agree."""
    with tempfile.TemporaryDirectory(prefix="perf-analyzer-") as folder:
        work = Path(folder)
        argv = ["setpriv", "--pdeathsig", "KILL", "--", str(find_binary()), *arguments(plan, grpc, work)]
        budget_s = 30 + plan.window_ms * plan.max_windows / 1000 * 3
        environment = {**os.environ, "LD_LIBRARY_PATH": str(link_libraries(work))}
        try:
            done = subprocess.run(
                argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=budget_s
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"perf_analyzer on {plan.model} took more than {budget_s:.0f} s") from error
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if any(UNSTABLE in line for line in said):
            raise UnstableError(plan.model)
        if done.returncode or not (work / EXPORT).exists():
            raise UserError(f"perf_analyzer could not measure {plan.model}: " + "\n".join(said[-4:]))
        return parse(plan, work)


def measure_together(plans: Sequence[Plan], grpc: str) -> list[Load]:
    """Run several loads at the same time; results in the order of `plans`."""
    with ThreadPoolExecutor(len(plans)) as pool:
        return list(pool.map(lambda plan: measure(plan, grpc), plans))


def arguments(plan: Plan, grpc: str, work: Path) -> list[str]:
    """perf_analyzer's command line; writes the input file it names."""
    data = [{name: array.ravel().tolist() for name, array in request.items()} for request in plan.inputs]
    shapes = {name: ",".join(map(str, array.shape)) for name, array in plan.inputs[0].items()}
    (work / "inputs.json").write_text(json.dumps({"data": data}), encoding="utf-8")
    return [
        "-m", plan.model, "-u", grpc, "-i", "grpc", "-b", str(plan.batch),
        "--concurrency-range", str(plan.concurrency), "--input-data", str(work / "inputs.json"),
        *(part for name, shape in shapes.items() for part in ("--shape", f"{name}:{shape}")),
        "-p", str(plan.window_ms), "-r", str(plan.max_windows), "-s", str(plan.stability_pct),
        "-f", str(work / SUMMARY), "--profile-export-file", str(work / EXPORT),
    ]  # fmt: skip


def parse(plan: Plan, work: Path) -> Load:
    """The throughput of the CSV report and the latencies of the single requests of the same windows."""
    experiment = json.loads((work / EXPORT).read_text(encoding="utf-8"))["experiments"][0]
    edges = experiment["window_boundaries"][-WINDOWS - 1 :]
    times = sorted((one["timestamp"], one["response_timestamps"][-1]) for one in experiment["requests"])
    warm = times[plan.concurrency :]  # the first request of each connection also opens it
    latencies = [(end - begin) / 1e6 for begin, end in warm if edges[0] <= end <= edges[-1]]
    with (work / SUMMARY).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not latencies or not rows:
        raise UserError(f"perf_analyzer saw no answers of {plan.model}")
    seconds = (max(end for _, end in times) - times[0][0]) / 1e9
    return Load(float(rows[0]["Inferences/Second"]), latencies, seconds)


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
