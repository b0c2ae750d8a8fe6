"""One job in one child process: time-out, memory limit, own log, crash isolation, nothing left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner import store

MARK = "INFRA90_JOB"  # in the environment of every process that a job starts, however deep
CODE = Path(__file__).resolve().parent.parent
STOP_S = 5.0
SAMPLE_S = 1.0


class Interrupted(Exception):
    """The user (or a supervisor) asked the runner to stop."""


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
    with tempfile.TemporaryDirectory(prefix="infra90-job-") as folder:
        file, answer = Path(folder) / "job.json", Path(folder) / "outcome.json"
        file.write_text(json.dumps({**job, "outcome": str(answer)}, ensure_ascii=False), encoding="utf-8")
        reading, writing = os.pipe()
        try:
            child = _start(python, file, reading, log, str(job["uuid"]))
            try:
                reason, system = _watch(child, limits, on_tick, samples)
            finally:
                _stop(child, str(job["uuid"]))
        finally:
            os.close(reading)
            os.close(writing)
        found = store.read_json(answer)
    seconds = time.monotonic() - began
    if reason:
        return Outcome(False, reason, {}, system, seconds)
    if found is None:
        return Outcome(False, died(child.returncode, log), {}, system, seconds)
    return Outcome(bool(found["ok"]), str(found.get("reason", "")), found, system, seconds)


def _start(python: Path, file: Path, pipe: int, log: Path, uuid: str) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        return subprocess.Popen(
            [str(python), "-m", "runner.worker", str(file), str(pipe)],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, pass_fds=[pipe],
            start_new_session=True, cwd=log.parent, env=child_env(uuid),
        )  # fmt: skip


def child_env(uuid: str) -> dict[str, str]:
    """The user's environment without what would leak into a measurement or another tracking run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_")) and k != "PYTHONPATH"}
    return {**kept, "PYTHONPATH": str(CODE), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "", MARK: uuid}


def _watch(
    child: subprocess.Popen[bytes], limits: Limits, on_tick: Callable[[], None], samples: Path | None
) -> tuple[str, dict[str, float]]:
    """Wait for the child, sampling it once a second. Returns why it had to be stopped ('' if it ended by itself)."""
    deadline, peak = time.monotonic() + limits.timeout_s, 0.0
    cpu: list[float] = []
    meter = Meter(child.pid)
    with open(os.pidfd_open(child.pid), "rb", buffering=0) as ended:
        while not select.select([ended], [], [], SAMPLE_S)[0]:
            on_tick()
            cpu_pct, rss_mb = meter.read()
            peak, cpu = max(peak, rss_mb), [*cpu, cpu_pct]
            if samples:
                with samples.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"at": time.time(), "cpu_pct": cpu_pct, "rss_mb": rss_mb}) + "\n")
            if time.monotonic() > deadline:
                return f"ran past its time-out of {limits.timeout_s:g} s", _system(cpu, peak)
            if rss_mb > limits.memory_gb * 1024:
                return f"used {rss_mb / 1024:.1f} GB of memory; its limit is {limits.memory_gb:.1f} GB", _system(
                    cpu, peak
                )
    child.wait()
    return "", _system(cpu, peak)


def _system(cpu: list[float], peak: float) -> dict[str, float]:
    return {"cpu_pct_mean": round(sum(cpu) / len(cpu), 1), "rss_peak_mb": round(peak, 1)} if cpu else {}


class Meter:
    """CPU use (percent of one core) and resident memory of a process and all that it started."""

    def __init__(self, pid: int) -> None:
        import psutil

        self.psutil, self.root = psutil, psutil.Process(pid)
        self.seconds, self.at = 0.0, time.monotonic()

    def read(self) -> tuple[float, float]:
        seconds, rss, now = 0.0, 0.0, time.monotonic()
        try:
            family = [self.root, *self.root.children(recursive=True)]
        except self.psutil.NoSuchProcess:
            family = []
        for process in family:
            try:
                with process.oneshot():
                    seconds += sum(process.cpu_times()[:2])
                    rss += process.memory_info().rss
            except self.psutil.NoSuchProcess:
                continue  # it ended between the listing and the look
        pct = max(0.0, (seconds - self.seconds) / max(now - self.at, 1e-6) * 100)
        self.seconds, self.at = seconds, now
        return round(pct, 1), round(rss / 2**20, 1)


def _stop(child: subprocess.Popen[bytes], uuid: str) -> None:
    """Let the child stop its services, then kill whatever still carries the job's mark."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    sweep({uuid})


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


def died(code: int | None, log: Path) -> str:
    """Why a child ended without an answer."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{hint}; log: {log}"
    return f"its process ended with exit code {code} and no answer; log: {log}"
