"""`run plan=…` as a list of steps; each step takes values and returns values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import environments, measure, records, report, status, store, tracking, verify, workspace
from runner.jobs import Job, Proof, Work
from runner.plan import Day, Plan, day_folders
from runner.preflight import Lack, Machine, lacks, module_lacks, probe
from runner.request import Request
from runner.show import Screen
from tasks.api import Needs

PASSED, FAILED, MISTAKE, BLOCKED, STOPPED = 0, 1, 2, 3, 130
AWAY_S = 5.0  # what a tracking server that is away may cost a run
REPORTS = ("report", "weekly_report")


@dataclass(frozen=True)
class Split:
    """What can run here and on which backend, and what cannot, with what is lacking."""

    ready: tuple[tuple[Job, Needs], ...]
    blocked: tuple[tuple[Job, tuple[Lack, ...]], ...]


def run_plan(plan: Plan, work: Work, request: Request, screen: Screen) -> int:
    """Measure, prove, report and track everything of the plan that is not done. Returns the exit code."""
    root, weeks = request.root, sorted({day.week for day in plan.days})
    with ExitStack() as held:
        for week in weeks:
            file = store.week_dir(root, week) / ".lock"
            held.enter_context(store.lock(file, shared=request.sweep, wait=request.wait, on_wait=screen.waiting))
        if not request.sweep:
            screen.notes(records.reconcile(root, weeks))
        machine = probe(root)
        own = {day.id: workspace.lay(day, root) for day in plan.days}
        split = choose(work.jobs, machine, request, screen)
        todo = [(job, needs) for job, needs in split.ready if not measure.done(job, needs, request)]
        screen.opening(plan, machine, todo, split.blocked, len(split.ready) - len(todo))
        ended = [records.block(job, found, machine, root) for job, found in split.blocked]
        ended += measure_all(todo, machine, own, request, screen)
        if variants := [job for job, needs in split.ready if request.variant(job, needs)]:
            track(request, screen)
            screen.closing_variants(variants, ended)
            return exit_code(ended, [])
        verdicts = prove_and_report(plan, work.proofs, machine, request, screen)
        track(request, screen)
        screen.closing(status.of_plan(plan, root, request.defaults), ended)
        return exit_code(ended, verdicts)


def choose(jobs: Sequence[Job], machine: Machine, request: Request, screen: Screen) -> Split:
    """Each job's first backend that this machine can run; its environment is made on the way."""
    ready, blocked = [], []
    for job in jobs:
        gaps: list[Lack] = []
        for needs in job.needs:
            found = lacks(needs, machine) or vendor_lacks(needs, request, screen)
            if not found:
                ready.append((job, needs))
                break
            gaps = gaps or found
        else:
            blocked.append((job, tuple(gaps)))
    return Split(tuple(ready), tuple(blocked))


def vendor_lacks(needs: Needs, request: Request, screen: Screen) -> list[Lack]:
    """What the environment itself lacks, once it is there."""
    python = environments.provision(request.root, needs.environment, request.mode, screen.progress)
    return module_lacks(needs, python)


def measure_all(
    todo: Sequence[tuple[Job, Needs]], machine: Machine, own: Mapping[str, list[str]], request: Request, screen: Screen
) -> list[dict[str, Any]]:
    """One after another: measurements must not share a machine."""
    ended = []
    for number, (job, needs) in enumerate(todo, 1):
        mine = not set(job.experiment.uses).isdisjoint(own[job.day.id])
        with screen.job(number, len(todo), job, needs) as tick:
            record = measure.measure(job, needs, machine, mine, request, tick)
        screen.ended(record, request.root)
        ended.append(record)
    return ended


def prove_and_report(
    plan: Plan, proofs: Sequence[Proof], machine: Machine, request: Request, screen: Screen
) -> list[dict[str, Any]]:
    """Check what was delivered, write the reports from records, then check the reports."""
    files = [proof for proof in proofs if proof.deliverable.made_by not in REPORTS]
    verdicts = prove(files, machine, request, screen)
    for path in write_reports(plan, request.root, request.lang):
        screen.progress(f"wrote {path.relative_to(request.root)}")
    written = [proof for proof in proofs if proof.deliverable.made_by in REPORTS]
    return verdicts + prove(written, machine, request, screen)


def prove(proofs: Sequence[Proof], machine: Machine, request: Request, screen: Screen) -> list[dict[str, Any]]:
    """The verdict on each deliverable that is there or ought to be; what still holds is not checked again."""
    verdicts = []
    for proof in proofs:
        known = records_for(proof, request.root)
        if verify.current(proof, request.root, known):
            stored = store.read_json(
                store.verdict_file(request.root, proof.day.week, proof.day.id, proof.deliverable.path)
            )
            verdicts.append(stored)
            continue
        if not verify.due(proof, request.root):
            continue
        screen.progress(f"checking {proof.day.id}/{proof.deliverable.path}")
        provision_checks([proof], machine, request, screen)
        verdict = verify.run(proof, request.root, machine, request.settings, known)
        screen.verdict(proof, verdict)
        verdicts.append(verdict)
    return verdicts


def provision_checks(proofs: Sequence[Proof], machine: Machine, request: Request, screen: Screen) -> None:
    """Make the environments that the checks need and this machine can use."""
    for needs in (check.needs(params) for proof in proofs for _, check, params in proof.checks):
        if not lacks(needs, machine):
            environments.provision(request.root, needs.environment, request.mode, screen.progress)


def records_for(proof: Proof, root: Path) -> list[Path]:
    """The records that a deliverable speaks of: its day's, or its whole week's for the weekly documents."""
    if proof.deliverable.made_by != "weekly_report":
        return [path for path in measure.day_records(proof.day.id, root) if path.exists()]
    days = [name for name, folder in day_folders(root).items() if folder.parent.name == proof.day.week]
    return [path for day in days for path in measure.day_records(day, root) if path.exists()]


def write_reports(plan: Plan, root: Path, lang: str) -> list[Path]:
    """Each day's report; on the week's last day the weekly documents too. Rebuilt from records alone."""
    written = []
    for day in plan.days:
        place = store.day_dir(root, day.week, day.id)
        written.append(report.write_day(day, place / "experiments", place, lang))
        if any(d.made_by == "weekly_report" for d in day.deliverables):
            written += report.write_week(day.week, week_days(root, day.week), store.week_dir(root, day.week), lang)
    return written


def week_days(root: Path, week: str) -> tuple[Day, ...]:
    from runner.build import build
    from runner.plan import load

    return build(load(root, week), root).days


def track(request: Request, screen: Screen) -> None:
    """Send finished records to MLflow. A server that is away costs five seconds; the records wait on disk."""
    tracked = tracking.TrackingSettings(**request.settings["tracking"])
    with screen.busy("sending records to MLflow") as say:
        sent = tracking.sync(request.root / "artifacts", tracked, say, deadline_s=AWAY_S)
    screen.tracked(sent)


def exit_code(ended: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]) -> int:
    states = {record["status"] for record in ended} | {verdict["status"] for verdict in verdicts}
    return FAILED if "failed" in states else BLOCKED if "blocked" in states else PASSED
