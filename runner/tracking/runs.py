"""One MLflow experiment, written so that repeating anything is harmless. Needs MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from runner.tracking import owner, tables
from runner.tracking.content import Content

METRICS_PER_CALL = 250  # a call with more may take longer than a server is waited for


class Runs:
    """The runs of one MLflow experiment. `beat` is called after each answer: the caller sees that MLflow is alive."""

    def __init__(self, client: MlflowClient, experiment_id: str, beat: Callable[[], None]) -> None:
        self.client, self.experiment_id, self.beat = client, experiment_id, beat
        self.owner = owner.tags()

    def find(self, tag: str, value: str) -> list[Run]:
        """The living runs with this tag, oldest first."""
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], f"tags.`{tag}` = '{value}'", order_by=["start_time ASC"], page_token=token
            )
            self.beat()
            found += page
            token = page.token
            if not token:
                return found

    def keep_one(self, found: list[Run]) -> Run | None:
        """The run to go on with. Further ones (a request that was answered too late) are deleted."""
        for surplus in found[1:]:
            self.client.delete_run(surplus.info.run_id)
            self.beat()
        return found[0] if found else None

    def open(self, found: list[Run], content: Content, marks: Mapping[str, str], parent: str = "") -> Run:
        """The run of this content: the one found, taken over from whoever left it, or a new one."""
        tags = {**content.tags, **marks, **self.owner, **({"mlflow.parentRunId": parent} if parent else {})}
        if run := self.keep_one(found):
            self.client.log_batch(run.info.run_id, tags=[RunTag(*tag) for tag in tags.items()])
        else:
            run = self.client.create_run(self.experiment_id, content.start, tags, content.name)
        self.beat()
        return run

    def fill(self, run: Run, content: Content) -> None:
        """Params and metrics; values that are there already stay as they are."""
        metrics = [Metric(sample.key, sample.value, sample.at, sample.step) for sample in content.metrics]
        params = [Param(*param) for param in content.params.items()]
        first, rest = metrics[:METRICS_PER_CALL], metrics[METRICS_PER_CALL:]
        self.client.log_batch(run.info.run_id, first, params)
        self.beat()
        for begin in range(0, len(rest), METRICS_PER_CALL):
            self.client.log_batch(run.info.run_id, rest[begin : begin + METRICS_PER_CALL])
            self.beat()

    def attach(self, run: Run, file: Path, folder: str = "") -> None:
        """A file as an artifact; sent again, it replaces itself."""
        self.client.log_artifact(run.info.run_id, str(file), folder or None)
        self.beat()

    def show(self, run: Run, named: Mapping[str, tables.Table]) -> None:
        """Tables, for the UI's own table view (JSON) and for spreadsheets (CSV)."""
        filled = {f"tables/{name}": table for name, table in named.items() if table}
        for name, table in filled.items():
            self.client.log_text(run.info.run_id, tables.as_json(table), f"{name}.json")
            self.client.log_text(run.info.run_id, tables.as_csv(table), f"{name}.csv")
            self.beat()
        listed = [{"path": f"{name}.json", "type": "table"} for name in filled]
        self.client.set_tag(run.info.run_id, "mlflow.loggedArtifacts", json.dumps(listed))
        self.beat()

    def close(self, run: Run, content: Content) -> None:
        """The last write of a run: from here on it is complete."""
        self.client.set_terminated(run.info.run_id, content.status, content.end)
        self.beat()
