"""Children forked from one process: each is a process of its own, found by its mark, and none outlives its job."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from runner import execute
from tasks.api import read_rows

PYTHON = Path(sys.executable)
PATIENCE_S = 60.0


def job(out: Path, **params: Any) -> dict[str, Any]:
    return {
        "uuid": uuid.uuid4().hex, "module": "tasks.rehearsal", "params": params, "points": [{"n": 1}], "spec": "test",
        "backend": "rehearsal", "tier": "native", "day": str(out), "out": str(out), "records": [], "settings": {},
        "seed": 90,
    }  # fmt: skip


def run(order: dict[str, Any], out: Path, python: Path = PYTHON) -> execute.Outcome:
    return execute.run(order, python, execute.Limits(120, 8), out / "log.txt", lambda: None, None)


def marked(order: dict[str, Any]) -> list[psutil.Process]:
    """The processes that carry a job's mark, as /proc shows them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("INFRA90_JOB") == order["uuid"]:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_the_same_interpreter_serves_job_after_job(tmp_path: Path) -> None:
    for _ in range(3):
        assert run(job(tmp_path), tmp_path).ok
    assert [row["metrics"]["value"] for row in read_rows(tmp_path / "rows.jsonl", "test")] == [1.0]
    assert (tmp_path / "log.txt").read_text().count("measured") == 3


def during(order: dict[str, Any], act: Callable[[psutil.Process], object]) -> threading.Thread:
    """Act on the job's own process as soon as its mark shows."""

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := marked(order)):
            assert time.monotonic() < deadline, "the job's process never showed"
        act(found[0])

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_killed_child_is_one_failed_job(tmp_path: Path) -> None:
    order = job(tmp_path, seconds=PATIENCE_S)
    thread = during(order, lambda child: child.kill())
    outcome = run(order, tmp_path)
    thread.join()
    assert not outcome.ok
    assert "killed by SIGKILL" in outcome.reason
    assert run(job(tmp_path), tmp_path).ok


def test_a_killed_nursery_costs_nothing_but_a_new_one(tmp_path: Path) -> None:
    order = job(tmp_path, seconds=3.0)  # long enough to be found on a busy machine
    killed: list[int] = []

    def kill_nursery(child: psutil.Process) -> None:
        killed.append(child.ppid())
        os.kill(killed[0], signal.SIGKILL)

    thread = during(order, kill_nursery)
    assert run(order, tmp_path).ok
    thread.join()
    assert killed, "the nursery was not killed while the job ran"
    assert run(job(tmp_path), tmp_path).ok


def test_nothing_is_left_of_a_job_that_ran_out_of_time(tmp_path: Path) -> None:
    order = job(tmp_path, seconds=60.0, service=True)
    outcome = execute.run(order, PYTHON, execute.Limits(1, 8), tmp_path / "log.txt", lambda: None, None)
    assert "time-out" in outcome.reason
    assert marked(order) == []


def test_an_interpreter_that_does_not_start_is_named(tmp_path: Path) -> None:
    outcome = run(job(tmp_path), tmp_path, Path("/bin/false"))
    assert not outcome.ok
    assert outcome.reason.startswith("/bin/false does not start")
