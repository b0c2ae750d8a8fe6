"""The processes and rows of one test's project: they carry its private cache folder in their environment."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from conftest import Project

from runner.nursery import BLANK

PATIENCE_S = 60.0  # on a machine that other tests keep busy


def of(project: Project, word: str = "", mark: str = "") -> list[int]:
    """Every process of the project whose command line holds `word` and whose environment holds `mark`."""
    wanted = f"XDG_CACHE_HOME={project.env['XDG_CACHE_HOME']}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environ, said = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue  # gone meanwhile
        if wanted in environ.split(b"\0") and mark.encode() in environ and word.encode() in said.replace(b"\0", b" "):
            found.append(int(entry.name))
    return found


def services(project: Project) -> list[int]:
    return of(project, "http.server")


def workers(project: Project) -> list[int]:
    """The children that measure: they carry the mark of a job that is marked as running."""
    uuids = [json.loads(text)["uuid"] for text in markers(project)]
    return [pid for uuid in uuids for pid in of(project, "runner.worker", f"INFRA90_JOB={uuid}")]


def nurseries(project: Project) -> list[int]:
    """The processes that those are forked from."""
    return of(project, "runner.worker", f"INFRA90_JOB={BLANK}")


def markers(project: Project) -> Iterator[str]:
    for file in (project.root / "artifacts").glob("*/*/experiments/*/running.json"):
        try:
            yield file.read_text(encoding="utf-8")
        except OSError:
            continue  # the experiment ended meanwhile


def kill(pids: list[int]) -> int:
    """SIGKILL each of them; returns how many there were."""
    killed = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            continue  # it ended meanwhile
    return killed


def until(true: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something to become true; fails with `what` when it does not."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"waited {patience_s:g} s for: {what}"
        time.sleep(0.01)


def rows(project: Project) -> Counter[tuple[str, str, str]]:
    """Every whole row on disk as (experiment, measurement, point), with how often it is there."""
    found: Counter[tuple[str, str, str]] = Counter()
    for file in (project.root / "artifacts").glob("*/*/experiments/*/rows.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # torn by a kill
            found[file.parent.name, row["spec"], json.dumps(row["point"])] += 1
    return found
