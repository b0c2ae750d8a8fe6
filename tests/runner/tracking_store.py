"""Look into a real MLflow store and hold it against the records on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from runner.tracking import markers
from tasks.api import read_rows


def runs(uri: str, query: str = "") -> list[Run]:
    """All runs of all experiments that match."""
    client = MlflowClient(uri, uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(ids, query, max_results=1000))


def assert_exactly_once(uri: str, artifacts: Path) -> None:
    """Each record on disk has one complete run with one complete run per point, below one run of its day."""
    found = runs(uri)
    assert "RUNNING" not in {run.info.status for run in found}
    days = by_tag(found, "infra90.day")
    for path in artifacts.glob("week*/*/experiments/*/record.json"):
        record = markers.read(path)
        (run,) = by_tag(found, "infra90.record")[record["uuid"]]
        (day,) = days[f"{record['week']}/{record['day']}"]
        assert run.data.tags["mlflow.parentRunId"] == day.info.run_id
        assert run.info.status == ("FINISHED" if record["status"] == "passed" else "FAILED")
        assert run.data.metrics["points_measured"] == record["points"]["measured"]
        rows = read_rows(path.with_name("rows.jsonl"), record["spec"])
        points = [each for each in found if each.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        assert measured(points) == {json.dumps(row["point"]): row["metrics"]["throughput_rps"] for row in rows}
        assert len(points) == len(rows)
        shown = MlflowClient(uri, uri).list_artifacts(run.info.run_id)
        assert {"record.json", "rows.jsonl", "tables", "throughput.png"} <= {file.path for file in shown}


def load_rows(uri: str, run: Run) -> list[int]:
    """The instances axis of a run's table of rows, read as a user of MLflow would (it asks the process's own URI)."""
    mlflow.set_tracking_uri(uri)
    try:
        table = MlflowClient(uri, uri).load_table(run.info.experiment_id, "tables/rows.json", [run.info.run_id])
    finally:
        mlflow.set_tracking_uri(None)
    return [int(instances) for instances in table["instances"]]


def measured(points: list[Run]) -> Mapping[str, float]:
    """Throughput by point."""
    return {
        json.dumps({"instances": int(run.data.params["instances"])}): run.data.metrics["throughput_rps"]
        for run in points
    }


def by_tag(found: list[Run], tag: str) -> dict[str, list[Run]]:
    """Runs grouped by the value of a tag that they carry."""
    groups: dict[str, list[Run]] = {}
    for run in found:
        if tag in run.data.tags:
            groups.setdefault(run.data.tags[tag], []).append(run)
    return groups
