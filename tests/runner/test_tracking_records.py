"""What waits to be sent, and how a record looks in MLflow: without MLflow."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from tracking_tree import PIXEL, base_record, make_deliverables, make_record, row

from runner.tracking import TrackingSettings, content, markers, pending, supervise, tables, values
from tasks.api import UserError


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A port that accepts and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def pretend_sent(artifacts: Path, uri: str) -> None:
    """Markers as after a whole sending."""
    for path in pending(artifacts, uri):
        if path.is_dir():
            markers.mark_day(path, uri, "run", markers.look(path))
        else:
            markers.mark_record(path, markers.read(path)["uuid"], uri, "run", markers.stamp(path))


def test_a_finished_record_waits_until_it_is_marked_and_again_when_it_is_measured_anew(tmp_path: Path) -> None:
    record = make_record(tmp_path)
    make_deliverables(tmp_path)
    uri = "http://127.0.0.1:1"
    assert pending(tmp_path, uri) == [record, tmp_path / "week03/day18"]
    pretend_sent(tmp_path, uri)
    assert pending(tmp_path, uri) == []
    assert record in pending(tmp_path, "http://127.0.0.1:2"), "another server lacks it"
    make_record(tmp_path)
    assert record in pending(tmp_path, uri)


@pytest.mark.parametrize("status", ["running", "blocked"])
def test_a_record_without_measurements_does_not_wait(tmp_path: Path, status: str) -> None:
    record = make_record(tmp_path, status=status)
    assert record not in pending(tmp_path, "http://127.0.0.1:1")


def test_a_day_waits_again_only_when_the_content_of_a_file_changed(tmp_path: Path) -> None:
    make_record(tmp_path)
    make_deliverables(tmp_path)
    uri, report = "http://127.0.0.1:1", tmp_path / "week03/day18/report_day18.md"
    pretend_sent(tmp_path, uri)
    report.write_text(report.read_text())
    assert pending(tmp_path, uri) == [], "the same report was written once more"
    report.write_text("# Another report\n")
    assert pending(tmp_path, uri) == [tmp_path / "week03/day18"]


def test_everything_waits_when_the_sqlite_store_is_gone(tmp_path: Path) -> None:
    record = make_record(tmp_path)
    where = f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "mlflow.db").write_bytes(b"")
    pretend_sent(tmp_path, where)
    assert pending(tmp_path, "") == []
    (tmp_path / "mlflow.db").unlink()
    assert record in pending(tmp_path, "")


def test_a_torn_marker_or_record_harms_nothing(tmp_path: Path) -> None:
    record = make_record(tmp_path)
    pretend_sent(tmp_path, "http://127.0.0.1:1")
    record.with_name("tracked.json").write_text('{"uuid": "')
    assert record in pending(tmp_path, "http://127.0.0.1:1")
    record.write_text('{"uuid": "')
    assert record not in pending(tmp_path, "http://127.0.0.1:1")


@pytest.fixture
def no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting MLflow's client, which takes seconds, is a failure."""

    def started(*_: object) -> NoReturn:
        raise AssertionError("the client was started for a server that is away")

    monkeypatch.setattr(supervise, "start", started)


@pytest.mark.usefixtures("no_client")
def test_a_refused_port_is_told_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    make_record(tmp_path)
    said: list[str] = []
    with socket.socket() as deaf:  # bound and not listening: refused, and nobody else can take it
        deaf.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        sent = supervise.sync(tmp_path, TrackingSettings(uri), said.append, 5)
    assert (sent.sent, sent.left) == (0, 2)
    assert "1 record and 1 day wait on disk; `run sync` sends them" in said[-1]


@pytest.mark.usefixtures("no_client")
def test_a_black_hole_costs_the_probe_and_no_more(tmp_path: Path, black_hole: str) -> None:
    make_record(tmp_path)
    said: list[str] = []
    began = time.monotonic()
    sent = supervise.sync(tmp_path, TrackingSettings(black_hole, probe_timeout_s=0.2), said.append, 5)
    assert time.monotonic() - began < 5, "it waited for more than the probe"
    assert sent.left == 2
    assert "does not answer" in said[-1]


def test_the_probe_and_a_silent_server_together_stay_below_five_seconds() -> None:
    """What a run waits for MLflow at most, as `TrackingSettings` promises."""
    given = TrackingSettings()
    assert given.probe_timeout_s + given.request_timeout_s <= 5


def test_nothing_to_send_asks_no_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert supervise.sync(tmp_path, TrackingSettings(uri), print, 5) == supervise.Sent(0, 0, "")
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_importing_the_package_loads_neither_mlflow_nor_hydra() -> None:
    script = "import sys, runner.tracking; print([m for m in ('mlflow', 'hydra', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("uri", ["http://me:secret@host", "ftp://host", "./mlruns"])
def test_a_uri_with_a_secret_or_of_an_unknown_kind_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match=r"tracking\.uri"):
        TrackingSettings(uri)


def test_a_point_carries_its_axes_metrics_and_spread() -> None:
    record = base_record("instances", "week03", "day18", "s", 2)
    first, second = content.of_points(record, [row("s", 4, 1), row("s", 1, 0)])
    assert (first.name, second.name) == ("instances=1", "instances=4")
    assert first.params == {"instances": "1"}
    assert first.end == second.start, "points are measured one after another"
    values = {sample.key: sample.value for sample in second.metrics}
    assert values["throughput_rps"] == 400
    assert values["latency_p99_ms_p95"] == 12
    assert second.tags["tier"] == "stand-in"


def test_an_experiment_shows_its_curve_only_over_one_axis_of_whole_numbers() -> None:
    record = base_record("instances", "week03", "day18", "s", 2)
    whole = content.of_record(record, [row("s", 1, 0), row("s", 4, 1)], [])
    curve = [(sample.step, sample.value) for sample in whole.metrics if sample.key == "by_instances/throughput_rps"]
    assert curve == [(1, 100), (4, 400)]
    named = [row("s", 1, 0) | {"point": {"policy": "a"}}, row("s", 4, 1) | {"point": {"policy": "b"}}]
    assert not [sample for sample in content.of_record(record, named, []).metrics if sample.key.startswith("by_")]


def test_names_that_mlflow_refuses_are_changed_and_long_values_cut() -> None:
    record = base_record("instances", "week03", "day18", "s", 1)
    record["stanza"]["params"] = {"qps@50%": "x" * 9000}
    record["system"] = {}
    whole = content.of_record(record, [], [])
    assert len(whole.params["qps_50_"]) == values.PARAM_CHARACTERS


def test_a_long_experiment_keeps_its_whole_span_of_system_samples() -> None:
    lines = [{"at": 1000.0 + second, "cpu_pct": float(second)} for second in range(1000)]
    samples = list(content.system_samples(lines))
    assert len(samples) <= content.SYSTEM_SAMPLES
    assert samples[0].value == 0
    assert samples[-1].value > 980


def test_tables_line_up_rows_with_different_metrics() -> None:
    table = tables.rows_table([row("s", 1, 0), {**row("s", 2, 1), "spread": {}, "note": "cold"}])
    shown = json.loads(tables.as_json(table))
    assert shown["columns"][:2] == ["instances", "throughput_rps"]
    assert [line[shown["columns"].index("note")] for line in shown["data"]] == [None, "cold"]
    assert tables.as_csv(table).splitlines()[0].startswith("instances,throughput_rps")


def test_what_a_day_shows_leaves_out_hidden_files_and_the_records(tmp_path: Path) -> None:
    make_record(tmp_path)
    make_deliverables(tmp_path)
    day = tmp_path / "week03/day18"
    (day / "images").mkdir()
    (day / "images" / "curve.png").write_bytes(PIXEL)
    (day / ".draft").write_text("x")
    shown = [path.relative_to(day).as_posix() for path in markers.deliverables(day)]
    assert shown == ["multi_model_config.pbtxt", "report_day18.md", "images/curve.png"]
