"""Run the child that talks to MLflow, watch that it gets on, kill it when it does not. Light: no MLflow."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import IO, Any

from runner.tracking import markers
from runner.tracking.database import path_of
from runner.tracking.probe import away
from runner.tracking.settings import TrackingSettings, resolve
from tasks.services.process import stop

START_S = 90.0  # importing MLflow and opening a new SQLite store, on a busy machine; no server takes part in it
LOCK_S = 60.0  # another process is sending; it sends everything, so waiting longer gains nothing
INHERITED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI")
SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Sent:
    """How many records and days were sent, how many still wait, and why they wait."""

    sent: int
    left: int
    reason: str


@dataclass
class Outcome:
    """What the child told."""

    sent: int = 0
    closed: int = 0
    reason: str = ""


@dataclass
class Patience:
    """How long the child may be silent, and how long it may send; neither counts while it starts."""

    silent_s: float
    budget_s: float
    began: float = inf

    def begin(self) -> None:
        """The child has started: from now on it waits for nobody but MLflow."""
        self.began = time.monotonic()

    def left_s(self) -> float:
        """How long to wait for the child's next word."""
        if self.began == inf:
            return START_S
        return max(0.0, min(self.silent_s, self.began + self.budget_s - time.monotonic()))

    def why(self) -> str:
        """Why it ended."""
        if self.began == inf:
            return f"its client did not start within {START_S:.0f} s"
        slow = time.monotonic() - self.began >= self.budget_s
        return f"it is slow, more than {self.budget_s:.0f} s" if slow else "the server stopped answering"


def sync(
    artifacts: Path, settings: TrackingSettings, say: Callable[[str], None], deadline_s: float | None = None
) -> Sent:
    """Send what waits. With `deadline_s`, a server that is away costs at most that long; without, it is patient.

    Never raises for a store that is away: records wait on disk, nothing is lost, and a later call sends them.
    """
    waiting = markers.pending(artifacts, settings.uri)
    if not waiting:
        return Sent(0, 0, "")
    outcome = work(artifacts, settings, say, deadline_s, total=len(waiting))
    left = markers.pending(artifacts, settings.uri) if outcome.sent else waiting
    reason = (outcome.reason or "MLflow did not take all of them") if left else ""
    if left:
        say(f"MLflow: {reason}. {counted(left)} wait on disk; `run sync` sends them.")
    elif outcome.sent:
        say(f"MLflow: {counted(waiting)} sent.")
    return Sent(outcome.sent, len(left), reason)


def close_orphans(
    artifacts: Path, settings: TrackingSettings, say: Callable[[str], None], deadline_s: float | None = None
) -> int:
    """Close as KILLED the runs that dead processes left RUNNING; how many. `sync` does this too when it sends."""
    store = path_of(resolve(settings.uri, artifacts))
    if store is not None and not store.exists():
        return 0
    outcome = work(artifacts, settings, say, deadline_s, total=0)
    if outcome.reason:
        say(f"MLflow: {outcome.reason}.")
    return outcome.closed


def work(
    artifacts: Path, settings: TrackingSettings, say: Callable[[str], None], deadline_s: float | None, total: int
) -> Outcome:
    """Start the child, pass its words on, and end it when nothing is heard for too long. `total` 0: only orphans."""
    where = resolve(settings.uri, artifacts)
    request_s = settings.patient_timeout_s if deadline_s is None else min(settings.request_timeout_s, deadline_s)
    probe_s = request_s if deadline_s is None else min(settings.probe_timeout_s, deadline_s)
    if reason := away(where, probe_s):
        return Outcome(reason=reason)
    order = {
        "artifacts": str(artifacts.resolve()),
        "where": where,
        "experiment_prefix": settings.experiment_prefix,
        "send": total > 0,
        "patient": deadline_s is None,
        "lock_timeout_s": LOCK_S if deadline_s is None else request_s,
    }
    outcome = Outcome()
    local = path_of(where) is not None
    silent_s = START_S if local else request_s + 5 if deadline_s is None else min(request_s + 0.5, deadline_s)
    with tempfile.TemporaryFile() as log:
        child = start(order, max(1, round(request_s)), log)
        try:
            assert child.stdout is not None
            patience = Patience(silent_s, inf if deadline_s is None else settings.budget_s)
            if not listen(child.stdout, outcome, say, total, patience):
                outcome.reason = f"the sender died: {last_line(log)}"
        finally:
            stop(child, stop_s=0)  # after its last word there is only MLflow's own slow ending
    return outcome


def start(order: dict[str, Any], request_timeout_s: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """The child, in a process group of its own, dying with this process; its work goes in through stdin."""
    env = {name: value for name, value in os.environ.items() if name not in INHERITED} | {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a request sent twice could create a run twice
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(request_timeout_s),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH")))),
    }
    child = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "runner.tracking"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, process_group=0,
    )  # fmt: skip
    assert child.stdin is not None
    with child.stdin:
        child.stdin.write(json.dumps(order).encode())
    return child


def listen(pipe: IO[bytes], outcome: Outcome, say: Callable[[str], None], total: int, patience: Patience) -> bool:
    """Take in what the child tells, until its last word or the patience's end; False when it died without one."""
    for sign in signs(pipe, patience.left_s):
        if sign is None:
            outcome.reason = patience.why()
            return True
        if "end" in sign:
            outcome.reason = sign["end"]
            return True
        if sign.get("beat") == "imported":
            patience.begin()
        elif "sent" in sign:
            outcome.sent += 1
            say(f"MLflow: {outcome.sent}/{max(total, outcome.sent)} sent")
        elif "closed" in sign:
            outcome.closed += 1
        elif "say" in sign:
            say(sign["say"])
    return False


def signs(pipe: IO[bytes], silent_s: Callable[[], float]) -> Iterator[dict[str, Any] | None]:
    """The child's lines as they come; None once when it was silent for too long."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(silent_s()):
                yield None
                return
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            yield from map(json.loads, lines)


def counted(paths: list[Path]) -> str:
    """So many records, so many days."""
    days = sum(path.is_dir() for path in paths)
    parts = ((len(paths) - days, "record"), (days, "day"))
    return " and ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in parts if count)


def last_line(log: IO[bytes]) -> str:
    """The last line of what the child complained about."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
