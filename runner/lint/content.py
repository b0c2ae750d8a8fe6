"""What can be read from the plans alone: languages, stray files, environments, the curriculum's inventory."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from runner import environments, workspace
from runner.about import about
from runner.errors import Mistakes
from runner.jobs import Work
from runner.plan import Day, Plan, is_week, members, names
from tasks.catalog import CHECKS, KINDS
from tasks.documents.document import Highlight, Published

COMMAND_SHARE = 0.05  # an experiment should say what it measures, not which command to run


def findings(plan: Plan, work: Work, root: Path) -> Iterator[str]:
    for day in plan.days:
        yield from _languages(day)
        yield from _stray(day)
    yield from _weeks(plan, root)
    yield from _environments(work, root)
    yield from _inventory(plan, root)
    yield from _other_plans(plan, root)
    yield from _metrics()
    commands = sum(job.experiment.kind == "command" for job in work.jobs)
    if commands > COMMAND_SHARE * len(work.jobs):
        yield f"{commands} of {len(work.jobs)} experiments use the kind 'command'; the most is {COMMAND_SHARE:.0%}"


def _languages(day: Day) -> Iterator[str]:
    texts = [day.title, *day.goals, *day.focus, *day.blocks, *day.questions, *day.notes]
    texts += [day.leetcode] if day.leetcode else []
    texts += [e.title for e in day.experiments] + [c["text"] for e in day.experiments for c in e.claims]
    for text in texts:
        for language in ("en", "zh"):
            if not str(text[language]).strip():
                yield f"{day.id}: a text has no {language}: {text}"


def _stray(day: Day) -> Iterator[str]:
    delivered = {d.path for d in day.deliverables if d.made_by == "reference"}
    used = {name for e in day.experiments for name in e.uses}
    known = delivered | used
    for name in workspace.references(day):
        if name not in known and not name.startswith(tuple(each for each in known if each.endswith("/"))):
            yield f"{day.id}: {name} is neither a deliverable nor used by an experiment"


def _weeks(plan: Plan, root: Path) -> Iterator[str]:
    """Each week's own file: its highlights and published figures speak of experiments and metrics that there are."""
    metrics = {f"{day.id}/{e.id}": e.metrics for day in plan.days for e in day.experiments}
    for week in sorted({day.week for day in plan.days}):
        try:
            said = about(week, root)
        except Mistakes as found:
            yield from map(str, found.problems)
            continue
        cited: list[Highlight | Published] = [*said.highlights, *said.published]
        for each in cited:
            if each.metric not in metrics.get(each.experiment, ()):
                yield f"{week}: {each.experiment} does not measure {each.metric}"


def _environments(work: Work, root: Path) -> Iterator[str]:
    known = {"runner", *environments.known(root)}
    asked = {
        (f"kind {job.experiment.kind}", name) for job in work.jobs for needs in job.needs for name in needs.environments
    }
    asked |= {(f"check {n}", e) for proof in work.proofs for n, c, p in proof.checks for e in c.needs(p).environments}
    yield from (f"{who}: no environment '{name}'" for who, name in sorted(asked) if name not in known)


def _metrics() -> Iterator[str]:
    for name, kind in KINDS.items():
        for attribute in ("Params", "Point", "METRICS", "needs", "run"):
            if not hasattr(kind, attribute):
                yield f"kind {name} has no {attribute}"
    for name, check in CHECKS.items():
        for attribute in ("Params", "needs", "check"):
            if not hasattr(check, attribute):
                yield f"check {name} has no {attribute}"


def _inventory(plan: Plan, root: Path) -> Iterator[str]:
    """Every row of the curriculum is there, for the weeks that are written."""
    experiments, deliverables = root / "plans/curriculum/experiments.tsv", root / "plans/curriculum/deliverables.tsv"
    if not experiments.exists():
        return
    days = {f"{int(day.id.removeprefix('day'))}": day for day in plan.days if is_week(day.week)}
    weeks = {day.week for day in plan.days}
    for row in _rows(experiments):
        day = days.get(row["day"])
        if day is None:
            week = f"week{(int(row['day']) - 1) // 7 + 1:02d}"
            if week in weeks:
                yield f"{week} is written, but day {row['day']} is missing"
            continue
        mine = next((e for e in day.experiments if e.id == row["id"]), None)
        if mine is None:
            yield f"{day.id}: the curriculum's experiment {row['id']} is missing"
        elif lost := set(row["metrics"].split(",")) - set(mine.metrics):
            yield f"{day.id}: {row['id']} does not measure {', '.join(sorted(lost))}"
    for row in _rows(deliverables):
        if (day := days.get(row["day"])) and row["path"] not in [d.path for d in day.deliverables]:
            yield f"{day.id}: the curriculum's deliverable {row['path']} is missing"


def _other_plans(plan: Plan, root: Path) -> Iterator[str]:
    """Every row of the other plans that are written is an experiment of theirs, or of a day that they select."""
    file = root / "plans/curriculum/other_plans.tsv"
    rows = list(_rows(file)) if file.exists() else []
    listed = {name: members(root, name) for name in {row["plan"] for row in rows}.intersection(names(root))}
    known_ids = {day.id: {e.id for e in day.experiments} for day in plan.days}
    for row in rows:
        if row["plan"] not in listed:
            continue
        day, _, experiment = row["id"].partition("/")
        if experiment not in known_ids.get(day, ()):
            yield f"{row['plan']}: the experiment {row['id']} is missing ({row['item']})"
        elif day not in listed[row["plan"]]:
            yield f"{row['plan']} does not list {day}, which has {row['id']}"


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
