"""The child that talks to MLflow: `python -m runner.tracking`, with its work as JSON on stdin.

MLflow costs seconds of CPU to import, and a server that never answers blocks inside it: in a child, the first
disturbs no caller, and the second can be killed. It answers in JSON lines on stdout, the last one being `end`;
`supervise` reads them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from runner.tracking import database, markers


def main() -> None:
    """Do the work that stdin describes, under the lock: two at once would create runs twice."""
    work = json.load(sys.stdin)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # MLflow prints links and migrations
    os.nice(5)
    tell(answers, end=locked(work, Path(work["artifacts"]), answers))


def locked(work: dict[str, Any], artifacts: Path, answers: IO[str]) -> str:
    """Work alone on these artifacts; why it ended early, or nothing."""
    try:
        with FileLock(artifacts / ".tracking.lock", timeout=work["lock_timeout_s"]):
            return perform(work, artifacts, answers)
    except Timeout:
        return "another process is sending to MLflow just now"
    except OSError as error:
        return f"{error.strerror or error} ({error.filename or artifacts})"


def perform(work: dict[str, Any], artifacts: Path, answers: IO[str]) -> str:
    """Import MLflow and work; every sign of life is told."""
    from runner.tracking.replay import Away, Replay

    tell(answers, beat="imported")
    store = database.path_of(work["where"])
    if store is not None and not store.exists():
        markers.forget(artifacts, work["where"])  # before there is a file that seems to know what was sent
    with database.opened(store):
        try:
            replay = Replay(artifacts, work["where"], work["experiment_prefix"], lambda **sign: tell(answers, **sign))
            if work["send"]:
                replay.send_all(work["patient"])
            replay.close_orphans()
        except Away as away:
            return str(away)
    return ""


def tell(answers: IO[str], **sign: Any) -> None:
    """One JSON line for the parent."""
    answers.write(json.dumps(sign) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
