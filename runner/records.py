"""Records: what is written before an experiment starts, when it ended, and for what a killed run left behind."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from runner import claims, execute, spec, store
from runner.jobs import Job
from runner.preflight import Lack, Machine
from tasks.api import Needs, read_rows

SCHEMA = 1


def missing_points(job: Job, folder: Path, measurement: str) -> list[dict[str, Any]]:
    """The points that no row of this measurement holds yet."""
    have = [row["point"] for row in read_rows(folder / "rows.jsonl", measurement) if not row.get("blocked")]
    wanted = [point.model_dump(mode="json", exclude_unset=True) for point in job.points]
    return [point for point in wanted if point not in have]


def begin(record: dict[str, Any], folder: Path) -> None:
    """Mark the experiment as running, with who runs it, before anything is measured. No run outlives a power cut."""
    store.write_json(folder / "running.json", {**record, "status": "running", "owner": store.owner()}, durable=False)


def base(job: Job, needs: Needs, machine: Machine, root: Path) -> dict[str, Any]:
    """What every record of the job says, whatever came of it."""
    return {
        "schema": SCHEMA, "id": job.id, "day": job.day.id, "week": job.day.week, "kind": job.experiment.kind,
        "tier": needs.tier, "backend": needs.backend, "stand_in_for": needs.stand_in_for,
        "stanza": job.experiment.stanza(), "machine": machine.facts(), "git": git(root), "uuid": uuid.uuid4().hex,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "reason": "", "remedy": "", "spec": "", "inputs": {},
        "settings": {}, "versions": {}, "unmeasured": list(needs.unmeasured),
        "origin": "reference", "variant": "", "overrides": [], "claims": [],
        "artifacts": [], "points": {"planned": 0, "measured": 0}, "system": {}, "seconds": 0.0,
    }  # fmt: skip


def finish(record: dict[str, Any], job: Job, folder: Path, outcome: execute.Outcome) -> dict[str, Any]:
    """Judge the rows, write the record atomically and remove the running marker."""
    rows = read_rows(folder / "rows.jsonl", record["spec"])
    wanted = [point.model_dump(mode="json", exclude_unset=True) for point in job.points]
    rows = [row for row in rows if row["point"] in wanted]
    stopped = [row for row in rows if row.get("blocked")]
    reason = outcome.reason if not outcome.ok else _short_of(job, rows, record["unmeasured"])
    status = "failed" if reason else "blocked" if rows and len(stopped) == len(rows) else "passed"
    record |= {
        "status": status,
        "reason": reason or "; ".join(dict.fromkeys(row["blocked"] for row in stopped)),
        "remedy": "; ".join(dict.fromkeys(row["remedy"] for row in stopped)),
        "points": {"planned": len(wanted), "measured": len(rows) - len(stopped)},
        "claims": [claims.judge(claim, rows) for claim in job.experiment.claims],
        "artifacts": artifacts(folder),
        "system": dict(outcome.system),
        "seconds": round(outcome.seconds, 3),
        "at": time.time(),
    }
    store.write_json(folder / "record.json", record)
    (folder / "running.json").unlink(missing_ok=True)
    return record


def _short_of(job: Job, rows: Sequence[Mapping[str, Any]], unmeasured: Sequence[str]) -> str:
    """What a job that ended well still owes: points, or metrics that the plan asks for and the backend can measure."""
    if len(rows) < len(job.points):
        return f"measured {len(rows)} of {len(job.points)} points"
    for row in (row for row in rows if not row.get("blocked")):
        if lost := [name for name in job.experiment.metrics if name not in {*row["metrics"], *unmeasured}]:
            return f"did not measure {', '.join(lost)} at {row['point']}"
    return ""


def block(job: Job, lacks: Sequence[Lack], machine: Machine, root: Path) -> dict[str, Any]:
    """A record for what cannot run on this machine, with the reason and the remedy.

    A passed record from another machine stays: its figures were measured there.
    """
    folder = store.experiment_dir(root, job.day.week, job.day.id, job.id)
    reason = "; ".join(lack.what for lack in lacks)
    before = store.read_json(folder / "record.json")
    if before and (before["status"] == "passed" or (before["status"], before["reason"]) == ("blocked", reason)):
        return dict(before)
    record = base(job, job.needs[0], machine, root) | {
        "status": "blocked", "at": time.time(), "reason": reason,
        "remedy": "; ".join(lack.remedy for lack in lacks),
    }  # fmt: skip
    store.write_json(folder / "record.json", record)
    return record


def artifacts(folder: Path) -> list[dict[str, Any]]:
    """Every file that the experiment left in its folder, with its hash."""
    own = {"record.json", "running.json", "tracked.json", "log.txt", "system.jsonl"}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return [
        {"path": str(path.relative_to(folder)), "sha256": spec.file_hash(path), "bytes": path.stat().st_size}
        for path in files
        if path.name not in own
    ]


def reconcile(root: Path, weeks: Sequence[str]) -> list[str]:
    """Clear up after owners that are gone: kill what they left running, and say what was interrupted.

    A record that passed before stays as it is; the points measured meanwhile are in rows.jsonl.
    """
    execute.tidy()
    messages = []
    for week in weeks:
        for marker_file in sorted(store.week_dir(root, week).glob("*/experiments/*/running.json")):
            marker = store.read_json(marker_file)
            if marker and store.alive(marker["owner"]):
                continue
            if marker:
                messages.append(_interrupted(marker, marker_file.with_name("record.json")))
            marker_file.unlink(missing_ok=True)
    return messages


def _interrupted(marker: dict[str, Any], target: Path) -> str:
    pid, killed = marker.pop("owner")["pid"], execute.sweep({marker["uuid"]})
    if not target.exists():
        reason = f"interrupted: the run of pid {pid} was killed; its measured points are kept"
        store.write_json(target, {**marker, "status": "failed", "reason": reason, "at": time.time()})
    left = f"; {killed} processes that it left were stopped" if killed else ""
    return f"{marker['id']}: the run of pid {pid} was interrupted{left}"


@cache
def git(root: Path) -> dict[str, Any]:
    """The checkout's revision, and whether tracked files differ from it; empty outside git."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
            cwd=root, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {"revision": "", "dirty": False}
    text = said.stdout.strip()
    return {"revision": text.removesuffix("-dirty"), "dirty": text.endswith("-dirty")}
