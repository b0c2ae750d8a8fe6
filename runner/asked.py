"""A composed configuration → the plan that was asked for and its work, wholly validated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner import adhoc, groups, jobs, overrides, settings
from runner.build import build
from runner.errors import Mistakes, mistake, nearest
from runner.keys import HERE
from runner.plan import Plan, load

ENGINE = "engine"
TRY_ENGINE = "run task=llm_frameworks 'params.frameworks=[engine]' engine={} measures that engine"


def work(root: Path, composed: Any, given: list[str]) -> tuple[Plan, Plan, jobs.Work]:
    """The plan that was asked for, the plan as its files have it, and the work. Raises Mistakes."""
    plan, whole, found = _work(root, composed, given)
    _heeds_engine(root, composed, found.jobs)
    return plan, whole, found


def _work(root: Path, composed: Any, given: list[str]) -> tuple[Plan, Plan, jobs.Work]:
    if not composed.get("plan") and not composed.get("task"):
        remedy = "name a plan (run plan=week03) or a task (run task=…)"
        raise mistake("nothing to run", where=HERE, remedy=remedy)
    for group in settings.GROUPS:
        overrides.plain_values(composed[group], (group,))
    if unsound := [problem for group in settings.GROUPS for problem in groups.composed(group, composed[group])]:
        raise Mistakes(unsound)
    if composed.get("task"):
        plan = adhoc.plan_of(composed, root)
        return plan, plan, jobs.expand(plan, root)
    files = load(root, composed["plan"]["id"])
    raw = composed["plan"] if "days" in composed["plan"] else files  # no override entered the plan
    overrides.plain_values(raw)
    whole, work = jobs.validated(raw, root, overrides.keys(given))
    plan = only(whole, composed)
    kept = {(day.id, experiment.id) for day in plan.days for experiment in day.experiments}
    days = {day.id for day in plan.days}
    of_these = jobs.Work(
        tuple(job for job in work.jobs if (job.day.id, job.id) in kept),
        tuple(p for p in work.proofs if p.day.id in days),
    )
    return plan, whole if raw is files else build(files, root), of_these


def _heeds_engine(root: Path, composed: Mapping[str, Any], found: Iterable[jobs.Job]) -> None:
    """Raises Mistakes for another engine than the default when every experiment names its own: nothing would change."""
    chosen, heeding = composed[ENGINE], (needs for job in found for needs in job.needs if ENGINE in needs.settings)
    if chosen == settings.defaults(root)[ENGINE] or any(heeding):
        return
    what = f"{chosen['id']} would be ignored: no experiment here takes its engine from the settings"
    raise mistake(what, where=HERE, key=ENGINE, remedy=TRY_ENGINE.format(chosen["id"]))


def only(plan: Plan, composed: Mapping[str, Any]) -> Plan:
    """The plan cut down to `day=` and `experiment=`."""
    days = plan.days
    if composed["day"] is not None:
        asked = str(composed["day"])
        wanted = asked if asked in {day.id for day in days} else f"day{asked.removeprefix('day'):0>2}"
        days = tuple(day for day in days if day.id == wanted)
        if not days:
            remedy = nearest(wanted, [day.id for day in plan.days], noun="its days")
            raise mistake(f"{plan.id} has no day '{composed['day']}'", where="command line", key="day", remedy=remedy)
    if (name := composed["experiment"]) is not None:
        known = [e.id for day in days for e in day.experiments]
        if name not in known:
            remedy = nearest(name, known, noun="its experiments")
            raise mistake(
                f"{plan.id} has no experiment '{name}'", where="command line", key="experiment", remedy=remedy
            )
        kept = ((day, tuple(e for e in day.experiments if e.id == name)) for day in days)
        days = tuple(day._replace(experiments=experiments) for day, experiments in kept if experiments)
    return plan._replace(days=days)
