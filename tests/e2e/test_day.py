"""A learner's day, through the command itself: real plans, real Triton, real reports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "normalize-model-softmax"
CONFIG = "artifacts/week03/day17/ensemble_config.pbtxt"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The plans and the configuration in a project of their own; environments come from the user's cache."""
    for name in ("plans", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def argv(*words: str) -> list[str]:
    return [sys.executable, "-m", "runner", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(checkout: Path, *words: str, code: int = 0) -> str:
    ended = subprocess.run(
        argv(*words), cwd=checkout, env=environment(), capture_output=True, text=True, timeout=900, check=False
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def experiment(checkout: Path) -> dict[str, Any]:
    status = json.loads(run(checkout, "status", "day17", "--json"))
    return next(dict(e) for e in status["days"][0]["experiments"] if e["id"] == EXPERIMENT)


def servers(of: int) -> list[psutil.Process]:
    """The Tritons that a process has started, however deep: other tests on this machine have theirs."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [process] if "tritonserver" in " ".join(process.cmdline()) else []
    return found


@pytest.mark.slow
def test_a_learners_own_config_is_what_runs_and_what_the_record_names(checkout: Path) -> None:
    said = run(checkout, "plan=day17", f"experiment={EXPERIMENT}")
    assert f"passed day17 {EXPERIMENT}" in said
    assert "ok day17/ensemble_config.pbtxt" in said
    report = (checkout / "artifacts/week03/day17/report_day17.md").read_text(encoding="utf-8")
    assert "`native`" in report
    assert experiment(checkout)["status"] == "passed"

    own = checkout / CONFIG
    own.write_text(own.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    stale = experiment(checkout)
    assert (stale["status"], CONFIG in stale["reason"]) == ("stale", True)
    run(checkout, "plan=day17", f"experiment={EXPERIMENT}")
    assert own.read_text(encoding="utf-8").endswith("# mine\n")
    assert (experiment(checkout)["status"], experiment(checkout)["origin"]) == ("passed", "own")

    own.write_text("name: [", encoding="utf-8")
    assert "failed" in run(checkout, "plan=day17", f"experiment={EXPERIMENT}", code=1)
    assert experiment(checkout)["status"] == "failed"


@pytest.mark.slow
def test_a_runner_killed_under_a_live_triton_leaves_no_server_and_goes_on(checkout: Path) -> None:
    child = subprocess.Popen(
        argv("plan=day17", f"experiment={EXPERIMENT}"), cwd=checkout, env=environment(), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 600  # whoever comes first trains the models
    while not (started := servers(child.pid)):
        assert child.poll() is None
        assert time.monotonic() < deadline, "Triton was never started"
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    assert experiment(checkout)["status"] == "failed"
    assert "was interrupted" in run(checkout, "plan=day17", f"experiment={EXPERIMENT}")
    assert experiment(checkout)["status"] == "passed"
