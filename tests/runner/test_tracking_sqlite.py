"""Sending to a real SQLite store: the layout, and exactly once whatever dies."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from tracking_store import assert_exactly_once, by_tag, load_rows, runs
from tracking_tree import make_deliverables, make_record

from runner.tracking import TrackingSettings, close_orphans, markers, owner, pending, supervise, sync
from runner.tracking.settings import resolve

pytestmark = pytest.mark.slow
LOCAL = TrackingSettings()


def order(artifacts: Path) -> dict[str, object]:
    """The child's work, as `supervise` gives it."""
    return {
        "artifacts": str(artifacts),
        "where": resolve("", artifacts),
        "experiment_prefix": "",
        "send": True,
        "patient": True,
        "lock_timeout_s": 60,
    }


def kill_after(artifacts: Path, answers: int) -> bool:
    """Start the sender and SIGKILL it when MLflow has answered so many times; False when it was done before."""
    with tempfile.TemporaryFile() as log:
        child = supervise.start(order(artifacts), 60, log)
        assert child.stdout is not None
        heard = 0
        for line in child.stdout:
            heard += b'"answer"' in line
            if heard == answers:
                child.send_signal(signal.SIGKILL)
                break
        child.stdout.close()
        return child.wait(60) == -signal.SIGKILL


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables and an experiment: making one costs seconds, so tests copy it."""
    artifacts = tmp_path_factory.mktemp("store")
    make_record(artifacts, day="week01/day01", points=(1,))
    assert sync(artifacts, LOCAL, print).left == 0
    return artifacts / "mlflow.db"


@pytest.fixture
def artifacts(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


def test_a_week_is_an_experiment_with_runs_for_days_experiments_and_points(tmp_path: Path) -> None:
    make_record(tmp_path)
    make_record(tmp_path, "sick", points=(1,), status="failed", reason="out of memory", tier="native")
    make_deliverables(tmp_path)
    uri = resolve("", tmp_path)
    assert sync(tmp_path, LOCAL, print).reason == ""
    assert pending(tmp_path, "") == []
    assert_exactly_once(uri, tmp_path)
    client = MlflowClient(uri, uri)
    assert {experiment.name for experiment in client.search_experiments()} == {"Default", "week03"}
    assert [run.info.run_name for run in runs(uri, "tags.tier = 'stand-in' and metrics.throughput_rps > 150")] == [
        "instances=4",
        "instances=2",
    ]
    (sick,) = runs(uri, "attributes.status = 'FAILED' and tags.kind = 'triton_serve'")
    assert sick.data.tags["reason"] == "out of memory"
    (whole,) = runs(uri, "tags.experiment = 'instances-1-2-4' and params.batch = '8'")
    assert whole.data.tags["version.tritonclient"] == "2.50.0"
    history = client.get_metric_history(whole.info.run_id, "system/cpu_pct")
    assert len(history) == 20
    assert history[0].timestamp == 1_795_000_000_000
    assert load_rows(uri, whole) == [1, 2, 4]
    (day,) = by_tag(runs(uri), "infra90.day")["week03/day18"]
    assert day.data.metrics["deliverables_ok"] == 1
    sent = {file.path for file in client.list_artifacts(day.info.run_id, "deliverables")}
    assert sent == {"deliverables/multi_model_config.pbtxt", "deliverables/report_day18.md"}


def test_a_lost_marker_or_store_is_sent_again_and_nothing_is_there_twice(artifacts: Path) -> None:
    record = make_record(artifacts)
    make_deliverables(artifacts)
    uri = resolve("", artifacts)
    sync(artifacts, LOCAL, print)
    before = len(runs(uri))
    record.with_name("tracked.json").unlink()
    sync(artifacts, LOCAL, print)
    assert len(runs(uri)) == before
    (whole,) = runs(uri, "tags.experiment = 'instances-1-2-4' and metrics.points_measured = 3")
    assert load_rows(uri, whole) == [1, 2, 4], "a table that is sent twice must not grow"
    for file in artifacts.glob("mlflow.db*"):
        file.unlink()
    sync(artifacts, LOCAL, print)
    assert_exactly_once(uri, artifacts)


def test_a_changed_deliverable_goes_to_the_same_run_of_the_day(artifacts: Path) -> None:
    make_record(artifacts)
    make_deliverables(artifacts)
    uri = resolve("", artifacts)
    sync(artifacts, LOCAL, print)
    (artifacts / "week03/day18/report_day18.md").write_text("# Better\n")
    assert sync(artifacts, LOCAL, print) == supervise.Sent(1, 0, "")
    (day,) = by_tag(runs(uri), "infra90.day")["week03/day18"]
    path = MlflowClient(uri, uri).download_artifacts(day.info.run_id, "deliverables/report_day18.md")
    assert Path(path).read_text() == "# Better\n"


def test_two_senders_at_once_make_no_duplicates(artifacts: Path) -> None:
    for number in range(4):
        make_record(artifacts, f"experiment-{number}", points=(1, 2))
    both = [threading.Thread(target=sync, args=(artifacts, LOCAL, print)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert_exactly_once(resolve("", artifacts), artifacts)


def test_a_sender_killed_at_random_moments_leaves_each_record_exactly_once(artifacts: Path) -> None:
    moments = random.Random(90)
    killed = 0
    for number in range(12):
        make_record(artifacts, f"experiment-{number}", points=(1, 2), samples=3)
        killed += kill_after(artifacts, moments.randint(1, 40))
    assert killed >= 10
    assert sync(artifacts, LOCAL, print).left == 0
    assert_exactly_once(resolve("", artifacts), artifacts)
    assert not list(artifacts.glob("**/.tracked.json.part"))


def test_runs_left_open_by_a_dead_sender_are_closed_as_killed_and_a_living_ones_are_not(artifacts: Path) -> None:
    make_record(artifacts, points=(1, 2))
    uri = resolve("", artifacts)
    assert kill_after(artifacts, 8)
    left = {run.info.run_id for run in runs(uri, "attributes.status = 'RUNNING'")}
    assert left
    client = MlflowClient(uri, uri)
    mine = client.create_run(runs(uri)[0].info.experiment_id, tags=owner.tags()).info.run_id
    assert close_orphans(artifacts, LOCAL, print) == len(left)
    assert {run.info.run_id for run in runs(uri, "attributes.status = 'KILLED'")} == left
    assert client.get_run(mine).info.status == "RUNNING"
    client.set_terminated(mine)
    sync(artifacts, LOCAL, print)
    assert_exactly_once(uri, artifacts)


def test_an_owner_is_dead_when_its_pid_is_gone_or_was_given_to_another() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    born = str(psutil.Process().create_time())
    gone = {owner.HOST: socket.gethostname(), owner.PID: str(child.pid), owner.STARTED: born}
    assert owner.is_dead(gone)
    assert owner.is_dead(gone | {owner.PID: str(os.getpid()), owner.STARTED: str(float(born) - 100)})
    assert not owner.is_dead(owner.tags())
    assert not owner.is_dead(gone | {owner.HOST: "elsewhere"})


def test_an_inherited_run_id_is_not_written_into(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = resolve("", artifacts)
    foreign = MlflowClient(uri, uri).create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", foreign)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    make_record(artifacts)
    assert sync(artifacts, LOCAL, print).left == 0
    run = MlflowClient(uri, uri).get_run(foreign)
    assert run.data.metrics == {}
    assert run.data.params == {}


def test_a_record_that_is_not_whole_does_not_keep_the_others_back(artifacts: Path) -> None:
    poison = make_record(artifacts, "poison")
    broken = markers.read(poison)
    del broken["machine"]
    poison.write_text(json.dumps(broken))
    healthy = make_record(artifacts, "wholesome")
    said: list[str] = []
    sync(artifacts, LOCAL, said.append)
    left = pending(artifacts, "")
    assert poison in left
    assert healthy not in left
    assert any(str(poison) in line for line in said)


def test_a_slow_store_is_left_when_the_runs_budget_is_spent_and_a_broken_one_is_named(artifacts: Path) -> None:
    for number in range(6):
        make_record(artifacts, f"experiment-{number}", points=(1, 2))
    said: list[str] = []
    hasty = TrackingSettings(budget_s=0.05)
    assert sync(artifacts, hasty, said.append, 5).left > 0
    assert "it is slow" in said[-1]
    assert sync(artifacts, LOCAL, print).left == 0
    assert_exactly_once(resolve("", artifacts), artifacts)
    make_record(artifacts)
    (artifacts / "mlflow.db").write_bytes(b"no database" * 1000)
    assert "file is not a database" in sync(artifacts, LOCAL, said.append, 5).reason
