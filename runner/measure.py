"""One job, measured: what it depends on, which points are missing, the child that measures them, the record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import environments, execute, parsed, records, spec, store, workspace
from runner.jobs import Job
from runner.plan import Experiment, day_folders
from runner.preflight import Machine
from runner.request import SEED, Request
from runner.settings import MEASURED
from tasks.api import Needs

Tick = Callable[[int], None]  # points measured so far


@dataclass(frozen=True)
class Target:
    """Where a job's figures go and what they depend on."""

    folder: Path
    day: Path  # the workspace that is executed
    variant: str
    inputs: Mapping[str, str]
    records: tuple[Path, ...]
    settings: Mapping[str, Any]
    measurement: str


def target(job: Job, needs: Needs, request: Request) -> Target:
    """Everything that decides whether a record of this job is still current."""
    variant, root, day = request.variant(job, needs), request.root, job.day
    place = store.day_dir(root, day.week, day.id)
    if variant:
        place = workspace.lay_variant(day, root, variant, job.experiment.uses)
    read = tuple(path for name in job.experiment.reads for path in day_records(name, root, before=job.experiment))
    files = [*job.source, *read]
    for name in job.experiment.uses:
        files.append(place / name)
        if spec.file_hash(place / name) == spec.file_hash(day.folder / name) != "":
            files.append(day.folder / name)  # a better reference makes the record stale, until it is laid again
    inputs = spec.inputs(files, root)
    settings = {group: request.settings[group] for group in needs.settings}
    drawn = settings if request.seed == SEED else {**settings, "seed": request.seed}
    measurement = spec.measurement(
        job.experiment.kind, job.params.model_dump(mode="json"), inputs, drawn, needs.backend
    )
    folder = store.experiment_dir(root, day.week, day.id, job.id, variant)
    return Target(folder, place, variant, inputs, read, settings, measurement)


def day_records(day: str, root: Path, before: Experiment | None = None) -> list[Path]:
    """The record files that a day's experiments have or will have; of `before`'s own day those that precede it."""
    folder = day_folders(root)[day]
    names = list(parsed.cached(folder / "day.yaml", root)["experiments"])
    if before and before.day == day:
        names = names[: names.index(before.id)]
    return [store.experiment_dir(root, folder.parent.name, day, name) / "record.json" for name in names]


def done(job: Job, needs: Needs, request: Request) -> bool:
    """Whether a passed record of this very measurement is there."""
    at = target(job, needs, request)
    record = store.read_json(at.folder / "record.json")
    if not record or record["status"] != "passed" or record["backend"] != needs.backend or request.force:
        return False
    return not spec.changes(record, job.experiment.stanza(), request.settings, request.root)


def measure(job: Job, needs: Needs, machine: Machine, own: bool, request: Request, tick: Tick) -> dict[str, Any]:
    """Measure what is missing and write the record. Raises Interrupted when the user stopped the run."""
    at = target(job, needs, request)
    with store.lock(at.folder / ".lock", wait=True):
        if request.sweep and done(job, needs, request):
            return dict(store.read_json(at.folder / "record.json"))
        measurement = f"{at.measurement}-{uuid.uuid4().hex[:8]}" if request.force else at.measurement
        record = records.base(job, needs, machine, request.root) | {
            "spec": measurement, "inputs": dict(at.inputs), "settings": dict(at.settings), "variant": at.variant,
            "overrides": list(request.overrides) if at.variant else [], "origin": "own" if own else "reference",
            "versions": environments.versions(request.root, needs, request.mode),
        }  # fmt: skip
        points = records.missing_points(job, at.folder, measurement)
        reason = waits_for(job, at, request)
        records.begin(record, at.folder)
        outcome = execute.Outcome(not reason, reason)
        if points and not reason:
            outcome = _execute(job, needs, at, record, points, machine, request, tick)
        return records.finish(record, job, at.folder, outcome)


def _execute(
    job: Job, needs: Needs, at: Target, record: Mapping[str, Any], points: list[dict[str, Any]], machine: Machine,
    request: Request, tick: Tick,
) -> execute.Outcome:  # fmt: skip
    order = {
        "uuid": record["uuid"], "module": job.module, "params": job.params.model_dump(mode="json"), "points": points,
        "backend": needs.backend, "tier": needs.tier, "spec": record["spec"], "day": str(at.day),
        "out": str(at.folder), "records": [str(path) for path in at.records if path.exists()],
        "settings": {group: request.settings[group] for group in MEASURED}, "seed": request.seed,
        "pythons": environments.pythons(request.root, needs.also, request.mode),
    }  # fmt: skip
    limit = request.settings["machine"]["memory_limit"] * machine.memory_gb
    limits = execute.Limits(job.experiment.timeout_s, limit)
    planned, rows = len(job.points), at.folder / "rows.jsonl"
    log, samples = at.folder / "log.txt", at.folder / "system.jsonl"
    log.write_text(
        f"{time.strftime('%F %T')} {job.id}: {len(points)} of {planned} points to measure\n", encoding="utf-8"
    )
    samples.unlink(missing_ok=True)
    before = planned - len(points)
    python = environments.python(request.root, needs.environment, request.mode)
    seen = _count(rows)
    return execute.run(order, python, limits, log, lambda: tick(before + _count(rows) - seen), samples)


def _count(rows: Path) -> int:
    return rows.read_bytes().count(b"\n") if rows.exists() else 0


def waits_for(job: Job, at: Target, request: Request) -> str:
    """Why the job cannot start yet: an experiment before it has not passed, or a file that it uses is not there."""
    for name in job.experiment.after:
        own, plain = (
            store.read_json(store.experiment_dir(request.root, job.day.week, job.day.id, name, variant) / "record.json")
            for variant in (at.variant, "")
        )
        state = (own or plain or {"status": "pending"})["status"]
        if state != "passed":
            return f"needs {name}, which is {state}"
    lost = [name for name in job.experiment.uses if not (at.day / name).exists()]
    return f"needs {lost[0]}, which is not in {at.day}" if lost else ""
