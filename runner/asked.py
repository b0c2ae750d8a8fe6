"""A composed configuration → the plan that was asked for and its work, wholly validated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from runner import adhoc, groups, jobs, overrides, settings
from runner.build import build
from runner.errors import HERE, Mistakes, mistake, nearest
from runner.plan import Plan, load

ENGINE = "engine"
TRY_ENGINE = "run task=llm_frameworks 'params.frameworks=[engine]' engine={} measures that engine"


def work(root: Path, composed: Any, given: list[str]) -> tuple[Plan, Plan, jobs.Work]:
    """The days and experiments asked for as the files have them, the whole plan of the files, and the work.

    Only the work is as the command line changed it. Raises Mistakes.
    """
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
    wanted = {day.id: {each.id for each in day.experiments} for day in only(whole, composed).days}
    base = whole if raw is files else build(files, root)
    of_these = jobs.Work(
        tuple(job for job in work.jobs if job.id in wanted.get(job.day.id, ())),
        tuple(proof for proof in work.proofs if proof.day.id in wanted),
    )
    return _cut(base, wanted), base, of_these


def _cut(plan: Plan, wanted: Mapping[str, Collection[str]]) -> Plan:
    """The plan with these days, and of each these experiments."""
    days = (
        day._replace(experiments=tuple(each for each in day.experiments if each.id in wanted[day.id]))
        for day in plan.days
        if day.id in wanted
    )
    return plan._replace(days=tuple(days))


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
            raise mistake(f"{plan.id} has no day '{composed['day']}'", where=HERE, key="day", remedy=remedy)
    if (name := composed["experiment"]) is not None:
        known = [e.id for day in days for e in day.experiments]
        if name not in known:
            remedy = nearest(name, known, noun="its experiments")
            raise mistake(f"{plan.id} has no experiment '{name}'", where=HERE, key="experiment", remedy=remedy)
        kept = ((day, tuple(e for e in day.experiments if e.id == name)) for day in days)
        days = tuple(day._replace(experiments=experiments) for day, experiments in kept if experiments)
    return plan._replace(days=days)
