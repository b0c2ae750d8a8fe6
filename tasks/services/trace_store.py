"""A real trace store: an MLflow server that takes OpenTelemetry spans (OTLP) and gives back traces."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import process

EXPERIMENT = "0"  # MLflow's own default experiment
API = "api/3.0/mlflow/traces"
# no job runners beside the server (1.9 GB less), and none of its telemetry
QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@dataclass(frozen=True)
class TraceStore:
    """A store that is ready. `address` is `127.0.0.1:port`. Trace ids are OpenTelemetry's, 32 hexadecimal digits."""

    address: str

    @property
    def otlp(self) -> tuple[str, dict[str, str]]:
        """URL and headers for an OTLP/HTTP span exporter."""
        return f"http://{self.address}/v1/traces", {"x-mlflow-experiment-id": EXPERIMENT}

    def get(self, trace_id: str) -> dict[str, Any] | None:
        """What is stored of a trace (`execution_duration`, `state`, …); None when there is none."""
        try:
            with urlopen(f"http://{self.address}/{API}/tr-{trace_id}", timeout=10) as answer:
                return dict(json.load(answer)["trace"]["trace_info"])
        except HTTPError as error:
            if error.code == 404:
                return None
            raise UserError(f"the trace store answers {error.code}", where=trace_id) from error

    def slower_than(self, milliseconds: float, limit: int = 100) -> list[dict[str, Any]]:
        """Traces that took longer, found by a search over all of them."""
        return self.search({"filter": f"trace.execution_time_ms > {milliseconds:.0f}", "max_results": limit})

    def search(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """The traces that MLflow's search returns for `filter`, `max_results` (up to 500), `order_by`."""
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": EXPERIMENT}}
        body = json.dumps({"locations": [location], **wanted}).encode()
        request = Request(f"http://{self.address}/{API}/search", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=30) as answer:
            return list(json.load(answer).get("traces", []))


@contextmanager
def serve(folder: Path) -> Iterator[TraceStore]:
    """Run until the block ends; data and log go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = process.free_port()
    argv = [
        "setpriv", "--pdeathsig", "TERM", "--",  # MLflow passes SIGTERM on to its worker; SIGKILL would orphan it
        sys.executable, "-m", "mlflow", "server", f"--host={process.LOOPBACK}", f"--port={port}", "--workers=1",
        f"--backend-store-uri=sqlite:///{folder / 'traces.db'}", f"--artifacts-destination={folder / 'artifacts'}",
    ]  # fmt: skip
    store = TraceStore(f"{process.LOOPBACK}:{port}")
    with process.serve(argv, log=folder / "mlflow.log", ready=lambda: answers(store), env=QUIET, timeout_s=120):
        yield store


def answers(store: TraceStore) -> bool:
    with urlopen(f"http://{store.address}/health", timeout=5) as answer:
        return bool(answer.status == 200)
