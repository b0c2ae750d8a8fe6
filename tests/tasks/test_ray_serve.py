"""Real Ray Serve replicas: scaled as hpa.yaml says, killed and restored, and gone when their owner is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import environments
from tasks.services import reaper

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "plans" / "week03" / "day20" / "hpa.yaml"
HOLD = """
import time
from tasks.services import loopback, ray
loopback.isolate()
with ray.serving() as serve:
    from ray import _private
    print(_private.worker.global_worker.node.get_temp_dir_path(), flush=True)
    time.sleep(120)
"""
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


@pytest.mark.slow
def test_replicas_follow_the_learners_own_file(run_kind: RunKind) -> None:
    """10 QPS for each pod and at most 2 pods: 50 QPS ask for 5 and get 2."""
    text = REFERENCE.read_text(encoding="utf-8")
    own = text.replace('averageValue: "250"', 'averageValue: "10"').replace("maxReplicas: 4", "maxReplicas: 2")
    params = {"question": "curve", "seconds": 20.0}  # a replica's start takes seconds, more of them on a busy machine
    rows, out = run_kind("autoscale", params, [{"qps": 50}], day_files={"hpa.yaml": own}, backend="Ray Serve")
    metrics = rows[0]["metrics"]
    assert metrics["replicas"] == 2
    assert 0 < metrics["scale_out_s"] < 20
    assert 0 < metrics["achieved_qps"] < 1.5 * 50
    timeline = (out / "replicas-qps-50.csv").read_text(encoding="utf-8").splitlines()
    assert max(int(line.split(",")[1]) for line in timeline[1:]) == 2


@pytest.mark.slow
def test_a_cpu_target_other_than_the_experiments_is_the_users_to_mend(run_kind: RunKind) -> None:
    own = REFERENCE.read_text(encoding="utf-8").replace("averageUtilization: 50", "averageUtilization: 80")
    params = {"question": "trigger", "decides": "cpu", "load": [{"seconds": 2.0, "qps": 10.0}]}
    with pytest.raises(AssertionError, match="averageUtilization is 80 but the experiment measures 50"):
        run_kind("autoscale", params, [{"cpu_target_pct": 50}], day_files={"hpa.yaml": own}, backend="Ray Serve")


@pytest.mark.slow
def test_a_cold_start_is_seen_by_every_request_that_waits_for_it(run_kind: RunKind) -> None:
    params = {"question": "cold_start", "load": [{"seconds": 8.0, "qps": 40.0}]}
    points = [{"start": "warm"}, {"start": "cold"}]
    rows, _ = run_kind("autoscale", params, points, day_files={"hpa.yaml": REFERENCE}, backend="Ray Serve")
    warm, cold = (row["metrics"] for row in rows)
    assert warm["time_to_ready_s"] == 0 < cold["time_to_ready_s"]
    assert cold["latency_p99_ms"] > 800 * cold["time_to_ready_s"] * 0.9
    assert warm["latency_p99_ms"] > 0
    assert rows[1]["note"] == ""  # no request failed: they waited


@pytest.mark.slow
def test_killed_replicas_come_back_and_failures_are_counted(run_kind: RunKind) -> None:
    rows, _ = run_kind("chaos", {"qps": 50.0}, [{"fault": "pod_delete", "repeats": 2}], backend="Ray Serve")
    row = rows[0]
    assert row["spread"]["recovery_s"]["n"] == 2
    assert row["metrics"]["recovery_s"] > 0
    assert 0 <= row["metrics"]["error_rate_pct"] < 100
    assert row["metrics"]["latency_p99_ms"] > 0


@pytest.mark.slow
def test_nothing_is_left_when_the_owner_is_killed() -> None:
    python = environments.provision(ROOT, "ray", "managed", print)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([str(python), "-c", HOLD], stdout=subprocess.PIPE, env=environment, text=True) as owner:
        assert owner.stdout is not None
        home = next(line.strip() for line in owner.stdout if line.startswith("/tmp/ray-"))
        spared = {os.getpid(), owner.pid}
        before = reaper.workers(home, spared)
        owner.send_signal(signal.SIGKILL)
    assert len(before) > 5, "the head, its agents, the proxy and a replica"
    deadline = time.monotonic() + 120
    while (left := reaper.workers(home, spared)) or Path(home).exists():
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)
