"""`run plan=…` as a list of steps; each step takes values and returns values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from runner import environments, measure, records, status, store, tracking, workspace
from runner.deliver import prove_and_report
from runner.jobs import Job, Work
from runner.plan import Plan
from runner.preflight import Lack, Machine, lacks, module_lacks, probe
from runner.request import Request
from runner.show import Screen
from tasks.api import Needs

PASSED, FAILED, MISTAKE, BLOCKED, STOPPED = 0, 1, 2, 3, 130
AWAY_S = 5.0  # what a tracking server that is away may cost a run


@dataclass(frozen=True)
class Split:
    """What can run here and on which backend, and what cannot, with what is lacking."""

    ready: tuple[tuple[Job, Needs], ...]
    blocked: tuple[tuple[Job, tuple[Lack, ...]], ...]

    def varied(self, request: Request) -> tuple[tuple[Job, Needs], ...]:
        """The ready jobs that the command line changed."""
        return tuple((job, needs) for job, needs in self.ready if request.variant(job, needs))


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
        if request.sweep and (varied := split.varied(request)):
            split = Split(varied, ())  # a sweep measures what it varies, not what is the same in all of its jobs
        todo = to_measure(split.ready, request)
        screen.opening(plan, machine, todo, split.blocked, len(split.ready) - len(todo))
        ended = [records.block(job, found, machine, root) for job, found in split.blocked]
        ended += measure_all(todo, machine, own, request, screen)
        if request.sweep and split.varied(request):
            track(request, screen)
            screen.closing_variants(ended)
            return exit_code(ended, [])
        verdicts = prove_and_report(plan, work.proofs, machine, request, screen)
        track(request, screen)
        adhoc = any(day.week == "adhoc" for day in plan.days)  # stands in no plan
        screen.closing(None if adhoc else status.of_plan(plan, root, request.defaults), ended)
        screen.closing_variants(ended)
        return exit_code(ended, verdicts)


def to_measure(ready: Sequence[tuple[Job, Needs]], request: Request) -> list[tuple[Job, Needs]]:
    """What is not done, and what reads the records of a day of which something is measured before it."""
    todo, renewed = list[tuple[Job, Needs]](), set[str]()
    for job, needs in ready:
        if not measure.done(job, needs, request) or renewed.intersection(job.experiment.reads):
            todo.append((job, needs))
            if not request.variant(job, needs):  # documents read the plan's own records
                renewed.add(job.day.id)
    return todo


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
    python = environments.provision_all(request.root, needs, request.mode, screen.progress)
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


def track(request: Request, screen: Screen) -> None:
    """Send finished records to MLflow. A server that is away costs a few seconds; the records wait on disk.

    Only here, after the measuring: MLflow's import alone would disturb figures on a small machine.
    """
    tracked = tracking.TrackingSettings(**request.settings["tracking"])
    with screen.busy("sending records to MLflow") as say:
        sent = tracking.sync(request.root / "artifacts", tracked, say, deadline_s=AWAY_S)
    screen.tracked(sent)


def exit_code(ended: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]) -> int:
    states = {record["status"] for record in ended} | {verdict["status"] for verdict in verdicts}
    return FAILED if "failed" in states else BLOCKED if "blocked" in states else PASSED
