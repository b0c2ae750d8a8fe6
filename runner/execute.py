"""One job in one child process: time-out, memory limit, own log, crash isolation, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import nursery, store
from runner.nursery import MARK, Child

STOP_S = 5.0
SAMPLE_S = 1.0
JOB = "infra90-job-"  # of the folder for everything temporary that a job writes, with the runner's pid


class Interrupted(KeyboardInterrupt):
    """The user (or a supervisor) asked the runner to stop. No `except Exception` on the way may swallow it."""


@dataclass(frozen=True)
class Limits:
    timeout_s: float
    memory_gb: float


@dataclass(frozen=True)
class Outcome:
    """What came of a child: `answer` is what the worker wrote, `reason` why it did not finish."""

    ok: bool
    reason: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)
    system: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def run(
    job: Mapping[str, Any], python: Path, limits: Limits, log: Path, on_tick: Callable[[], None], samples: Path | None
) -> Outcome:
    """Run the worker on `job` with that interpreter. Raises Interrupted after the child was stopped."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{JOB}{os.getpid()}-") as folder:
        file, answer = Path(folder) / "job.json", Path(folder) / "outcome.json"
        file.write_text(json.dumps({**job, "outcome": str(answer)}, ensure_ascii=False), encoding="utf-8")
        order = {"uuid": job["uuid"], "job": str(file), "folder": str(log.parent), "scratch": folder}
        with _child(python, order, log) as child:
            reason, system = _watch(child, limits, on_tick, samples) if child else ("", {})
            code = child.code() if child and not reason else None
        found = store.read_json(answer)
    seconds = time.monotonic() - began
    if reason:
        return Outcome(False, reason, {}, system, seconds)
    if found is None:
        lost = died(code, log) if child else f"{python} does not start; log: {log}"
        return Outcome(False, lost, {}, system, seconds)
    return Outcome(bool(found["ok"]), str(found.get("reason", "")), found, system, seconds)


@contextmanager
def _child(python: Path, order: Mapping[str, Any], log: Path) -> Iterator[Child | None]:
    """The job's process. Afterwards it has ended, and so has everything that it started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    leash, ours = os.pipe()
    child = None
    try:
        with log.open("ab") as sink:
            child = nursery.child(python, order, sink.fileno(), leash)
        yield child
    finally:
        if child:
            _stop(child)
        os.close(leash)
        os.close(ours)
        sweep({order["uuid"]})


def _watch(
    child: Child, limits: Limits, on_tick: Callable[[], None], samples: Path | None
) -> tuple[str, dict[str, float]]:
    """Wait for the child, sampling it once a second. Returns why it had to be stopped ('' if it ended by itself)."""
    deadline, peak = time.monotonic() + limits.timeout_s, 0.0
    cpu: list[float] = []
    meter = Meter(child.pid)
    while not child.ended(SAMPLE_S):
        on_tick()
        cpu_pct, rss_mb = meter.read()
        peak, cpu = max(peak, rss_mb), [*cpu, cpu_pct]
        if samples:
            with samples.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"at": time.time(), "cpu_pct": cpu_pct, "rss_mb": rss_mb}) + "\n")
        if time.monotonic() > deadline:
            return f"ran past its time-out of {limits.timeout_s:g} s", _system(cpu, peak)
        if rss_mb > limits.memory_gb * 1024:
            used = f"used {rss_mb / 1024:.1f} GB of memory; its limit is {limits.memory_gb:.1f} GB"
            return used, _system(cpu, peak)
    return "", _system(cpu, peak)


def _system(cpu: list[float], peak: float) -> dict[str, float]:
    return {"cpu_pct_mean": round(sum(cpu) / len(cpu), 1), "rss_peak_mb": round(peak, 1)} if cpu else {}


class Meter:
    """CPU use (percent of one core) and resident memory of a process and all that it started."""

    def __init__(self, pid: int) -> None:
        self.pid, self.seconds, self.at = pid, 0.0, time.monotonic()

    def read(self) -> tuple[float, float]:
        import psutil  # only for jobs that take long enough to be sampled

        seconds, rss, now = 0.0, 0.0, time.monotonic()
        try:
            root = psutil.Process(self.pid)
            family = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        for process in family:
            try:
                with process.oneshot():
                    seconds += sum(process.cpu_times()[:2])
                    rss += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue  # it ended between the listing and the look
        pct = max(0.0, (seconds - self.seconds) / max(now - self.at, 1e-6) * 100)
        self.seconds, self.at = seconds, now
        return round(pct, 1), round(rss / 2**20, 1)


def _stop(child: Child) -> None:
    """Let the child stop its services before it is killed."""
    if not child.ended(0):
        child.send(signal.SIGTERM)
        if not child.ended(STOP_S):
            child.send(signal.SIGKILL)
            child.ended(None)
    child.close()


def sweep(uuids: set[str]) -> int:
    """Kill every process that carries one of these marks; returns how many there were."""
    wanted = {f"{MARK}={uuid}".encode() for uuid in uuids}
    killed = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry.name}/environ", "rb") as file:
                if wanted.isdisjoint(file.read().split(b"\0")):
                    continue
            os.kill(int(entry.name), signal.SIGKILL)
            killed += 1
        except (OSError, ProcessLookupError):
            continue  # gone, or another user's
    return killed


def tidy() -> None:
    """Remove the temporary folders of runners that are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{JOB}*-*"):
        pid = folder.name.removeprefix(JOB).partition("-")[0]
        if pid.isdigit() and not store.process_start(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def died(code: int | None, log: Path) -> str:
    """Why a child ended without an answer."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}; log: {log}"
    return f"its process ended with exit code {code} and no answer; log: {log}"
