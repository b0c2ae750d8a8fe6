"""Where MLflow is and how long to wait for it. Light: no MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tasks.api import UserError


@dataclass(frozen=True)
class TrackingSettings:
    """The `tracking` group of the settings.

    uri: MLflow's store; empty means SQLite under the artifacts. Credentials never belong in it: MLflow reads
        MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.
    experiment_prefix: put before the week to name the MLflow experiment, for a server that others use too.
    probe_timeout_s, request_timeout_s: patience with a server while a run waits for it; together at most 5 s.
    budget_s: how long a run waits for everything to be sent by an MLflow that answers; the rest is left for later.
    patient_timeout_s: patience with one request when the user asked for it (`run sync`).
    """

    uri: str = ""
    experiment_prefix: str = ""
    probe_timeout_s: float = 2.0
    request_timeout_s: int = 3
    budget_s: float = 120
    patient_timeout_s: int = 60

    def __post_init__(self) -> None:
        parts = urlsplit(self.uri)
        if parts.password or parts.username:
            raise UserError(
                "the tracking URI carries credentials, which would be written into every record's marker",
                where="tracking.uri",
                remedy="Put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead.",
            )
        if self.uri and parts.scheme not in ("http", "https", "sqlite"):
            raise UserError(
                f"'{self.uri}' is not a place that this runner can track to",
                where="tracking.uri",
                remedy="Use http://host:port, https://host, sqlite:////absolute/file.db, or nothing for the default.",
            )


def resolve(uri: str, artifacts: Path) -> str:
    """The URI to give to MLflow: the given one, or the SQLite database under `artifacts`."""
    return uri.rstrip("/") or f"sqlite:///{artifacts.resolve()}/mlflow.db"
