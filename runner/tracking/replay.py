"""Everything that waits, in order, to MLflow. Runs in the child, under the lock. Needs MLflow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from runner.tracking import markers, owner
from runner.tracking.database import path_of
from runner.tracking.runs import Runs
from runner.tracking.send import send_day, send_record

AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "UNAUTHENTICATED", "PERMISSION_DENIED")
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "One run per day, below it one per experiment, below that one per measured point. "
    "Filter: `tags.tier = 'native'`, `tags.backend = '…'`, `tags.experiment = '…' and metrics.… > …`.",
}
ENOUGH_FAILURES = 3  # one after another: then it is not the record


class Away(Exception):
    """MLflow cannot be worked with now; the text says why."""


class Replay:
    """One connection to MLflow. `tell` reports beat=, say=, sent=path and closed=run id to the parent."""

    def __init__(self, artifacts: Path, where: str, prefix: str, tell: Callable[..., None]) -> None:
        self.artifacts, self.where, self.prefix, self.tell = artifacts, where, prefix, tell
        self.client = MlflowClient(where, where)

    def send_all(self, patient: bool) -> None:
        """Send records and days, week by week. Without patience the server's first failure ends it (Away)."""
        failures = 0
        waiting = markers.pending(self.artifacts, self.where)
        for week, paths in groupby(waiting, key=self.week_of):
            runs, lost = self.open_week(week)
            for path in self.waiting_in(week) if lost else list(paths):
                failures = 0 if self.send(path, runs, patient and failures + 1 < ENOUGH_FAILURES) else failures + 1

    def send(self, path: Path, runs: Runs, go_on: bool) -> bool:
        """Send one record or day. A record that MLflow will not have must not keep the others from being sent."""
        try:
            (send_day if path.is_dir() else send_record)(path, self.where, runs)
        except (MlflowException, OSError) as error:
            theirs = isinstance(error, OSError) or error.error_code in AWAY
            if theirs and not go_on:
                raise Away(why(error)) from error
            self.tell(say=f"MLflow did not take {path}: {why(error)}")
            return not theirs
        except (KeyError, TypeError, ValueError) as error:
            self.tell(say=f"{path} is not a whole record: {error!r}")
            return True
        self.tell(sent=str(path))
        return True

    def open_week(self, week: Path) -> tuple[Runs, bool]:
        """The week's MLflow experiment, and whether the store did not know it (any more)."""
        try:
            return self.find_or_create(week)
        except (MlflowException, OSError) as error:
            raise Away(why(error)) from error

    def find_or_create(self, week: Path) -> tuple[Runs, bool]:
        name = self.prefix + week.name
        known = self.client.get_experiment_by_name(name)
        self.tell(beat="experiment")
        if known and known.lifecycle_stage != "active":
            raise Away(f"its experiment '{name}' was deleted: restore it, or remove it for good with `mlflow gc`")
        if not known:
            markers.forget(week, self.where)
        experiment_id = known.experiment_id if known else self.create(name)
        return Runs(self.client, experiment_id, lambda: self.tell(beat="answer")), known is None

    def create(self, name: str) -> str:
        """A new MLflow experiment; beside the SQLite file, its artifacts lie beside it too."""
        store = path_of(self.where)
        folder = (store.parent / "mlartifacts" / name).as_uri() if store else None
        return str(self.client.create_experiment(name, folder, EXPERIMENT_TAGS))

    def close_orphans(self) -> None:
        """Close as KILLED the runs that dead processes of this host left RUNNING."""
        try:
            for run in self.left_running():
                if owner.is_dead(run.data.tags):
                    self.client.set_terminated(run.info.run_id, "KILLED")
                    self.tell(closed=run.info.run_id)
        except (MlflowException, OSError) as error:
            raise Away(why(error)) from error

    def left_running(self) -> list[Run]:
        known = self.client.search_experiments(ViewType.ACTIVE_ONLY)
        self.tell(beat="experiments")
        mine = f"tags.`{owner.HOST}` = '{owner.tags()[owner.HOST]}'"
        page = self.client.search_runs(
            [each.experiment_id for each in known], f"attributes.status = 'RUNNING' and {mine}"
        )
        self.tell(beat="orphans")
        return list(page)

    def waiting_in(self, week: Path) -> list[Path]:
        return [path for path in markers.pending(self.artifacts, self.where) if self.week_of(path) == week]

    def week_of(self, path: Path) -> Path:
        return self.artifacts / path.relative_to(self.artifacts).parts[0]


def why(error: Exception) -> str:
    """The first line of what went wrong."""
    return (str(error).splitlines() or [repr(error)])[0][:300]
