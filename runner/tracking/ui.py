"""MLflow's own UI on loopback over this project's store."""

from __future__ import annotations

import json
import signal
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from runner.tracking.database import path_of
from runner.tracking.settings import TrackingSettings, resolve
from tasks.api import UserError
from tasks.services.process import LOOPBACK, free_port, serve

LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}  # 0.5 GB instead of 2.4 GB


def ui(artifacts: Path, settings: TrackingSettings, port: int = 0, say: Callable[[str], None] = print) -> int:
    """Serve MLflow's UI until Ctrl-C or SIGTERM; port 0 takes a free one. A server has a UI: its URL is shown.

    Raises UserError when nothing was tracked yet or the port is taken.
    """
    where = resolve(settings.uri, artifacts)
    store = path_of(where)
    if store is None:
        say(f"MLflow: {where}")
        return 0
    if not store.exists():
        raise UserError("nothing is in MLflow yet", where=str(store), remedy="Run something first: run plan=day15")
    port = port or free_port()
    base = f"http://{LOOPBACK}:{port}"
    say("Starting MLflow's UI (some ten seconds) …")
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        with serve(
            server_argv(where, artifacts, port),
            log=artifacts / "mlflow-ui.log", ready=lambda: healthy(base), env=LEAN, timeout_s=120, stop_s=1,
        ) as server:  # fmt: skip
            say(f"MLflow: {experiment_url(base, settings.experiment_prefix, artifacts)}  (Ctrl-C stops it)")
            server.wait()
            raise UserError("MLflow's UI ended by itself", where=str(artifacts / "mlflow-ui.log"))
    except KeyboardInterrupt:
        say("MLflow's UI is stopped.")
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def server_argv(where: str, artifacts: Path, port: int) -> list[str]:
    """One worker on loopback. The inner setpriv: MLflow passes SIGTERM on to its worker, SIGKILL would orphan it."""
    return [
        "setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", where, "--default-artifact-root", (artifacts.resolve() / "mlartifacts").as_uri(),
        "--host", LOOPBACK, "--port", str(port), "--workers", "1",
    ]  # fmt: skip


def interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the UI as Ctrl-C does."""
    raise KeyboardInterrupt


def healthy(base: str) -> bool:
    """Whether the server answers."""
    with urllib.request.urlopen(f"{base}/health", timeout=2) as answer:
        return bool(answer.status == 200)


def experiment_url(base: str, prefix: str, artifacts: Path) -> str:
    """The page of the experiment (a week, another plan) that was written last, or the list of them."""
    query = urllib.parse.urlencode({"max_results": 200, "order_by": "last_update_time DESC"})
    with urllib.request.urlopen(f"{base}/api/2.0/mlflow/experiments/search?{query}", timeout=10) as answer:
        found = json.load(answer).get("experiments", [])
    names = {f"{prefix}{folder.name}" for folder in artifacts.iterdir() if folder.is_dir()}
    ours = [each["experiment_id"] for each in found if each["name"] in names]
    return f"{base}/#/experiments/{ours[0]}/runs?workflowType=machine_learning" if ours else f"{base}/#/experiments"
