"""Plans as values: YAML → Plan, Day, Experiment, Deliverable. Light: no Hydra, pydantic or tasks, nor `dataclasses`.

`load` reads plain mappings (what Hydra composes and overrides); `runner.build` turns a mapping into values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from runner import parsed
from runner.errors import HERE, Mistakes, Problem, mistake, nearest

Text = Mapping[str, str]


class Experiment(NamedTuple):
    id: str
    day: str
    week: str
    kind: str
    title: Text
    params: Mapping[str, Any]
    matrix: Mapping[str, list[Any]]
    metrics: tuple[str, ...]
    uses: tuple[str, ...]
    after: tuple[str, ...]
    reads: tuple[str, ...]
    claims: tuple[Mapping[str, Any], ...]
    timeout_s: float
    minutes: float

    def stanza(self) -> dict[str, Any]:
        """What the experiment is: the part of the YAML that a record depends on."""
        return {
            "kind": self.kind, "title": dict(self.title), "params": dict(self.params), "matrix": dict(self.matrix),
            "metrics": list(self.metrics), "uses": list(self.uses), "after": list(self.after),
            "reads": list(self.reads), "claims": [dict(claim) for claim in self.claims],
        }  # fmt: skip


class Deliverable(NamedTuple):
    path: str
    made_by: str
    checks: tuple[tuple[str, Mapping[str, Any]], ...]

    @property
    def asked(self) -> list[Any]:
        """Each check with its params, as a verdict keeps them."""
        return [[name, dict(params)] for name, params in self.checks]


class Day(NamedTuple):
    id: str
    week: str
    title: Text
    goals: tuple[Text, ...]
    focus: tuple[Text, ...]
    blocks: tuple[Mapping[str, Any], ...]
    experiments: tuple[Experiment, ...]
    deliverables: tuple[Deliverable, ...]
    leetcode: Text | None  # a unit of another plan has no checklist
    questions: tuple[Text, ...]
    notes: tuple[Text, ...]
    folder: Path  # where the day's reference files are

    @property
    def checklist(self) -> tuple[str, ...]:
        return (*(["leetcode"] if self.leetcode else []), *(f"question-{n}" for n in range(1, len(self.questions) + 1)))


class Plan(NamedTuple):
    id: str
    title: Text
    days: tuple[Day, ...]


def day_folders(root: Path) -> dict[str, Path]:
    """Every day's folder by id, in order: `day18` → plans/week03/day18.

    After the ninety days come the units of the plans that have their own, in the order that each plan lists them:
    `days-1-3` → plans/four_weeks/days-1-3.
    """
    plans, days = root / "plans", dict[str, Path]()
    found = sorted(_folders(plans), key=lambda name: (not is_week(name), name))
    for group in found:
        inside = sorted((name for name in _folders(plans / group) if _is_day(plans / group / name)), key=_natural)
        days |= {name: plans / group / name for name in (inside if is_week(group) else _as_listed(inside, root, group))}
    return days


def _as_listed(units: list[str], root: Path, name: str) -> list[str]:
    """A plan's units in the order of its own file. Loading the plan says which ones it does not list: here they end."""
    listed = _own_file(root, name, []).get("days")
    if not isinstance(listed, list):
        return units
    return [*(unit for unit in listed if unit in units), *(unit for unit in units if unit not in listed)]


def is_week(name: str) -> bool:
    """Whether it names one of the curriculum's weeks: `week03`."""
    return name.startswith("week") and name[4:].isdigit()


def _is_day(folder: Path) -> bool:
    """Whether a folder is a day, or a unit of a plan of its own."""
    named = folder.name.startswith("day") and folder.name[3:].isdigit()
    return named if is_week(folder.parent.name) else (folder / "day.yaml").exists()


def _natural(name: str) -> list[Any]:
    """Sorts `days-4-7` before `days-11-14`."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _folders(place: Path) -> list[str]:
    try:
        with os.scandir(place) as found:
            return [entry.name for entry in found if entry.is_dir()]
    except FileNotFoundError:
        return []


def names(root: Path) -> list[str]:
    """What `plan=` may name."""
    return _names(day_folders(root))


def _names(days: Mapping[str, Path]) -> list[str]:
    groups = dict.fromkeys(folder.parent.name for folder in days.values())
    return [*groups, *days, "all"]


def members(root: Path, name: str) -> dict[str, Path]:
    """The days of a plan in its order: a week's own, all that there are, or those that its `week.yaml` lists."""
    return _members(root, name, day_folders(root), _own_file(root, name, []), [])


def _members(
    root: Path, name: str, days: Mapping[str, Path], own: Mapping[str, Any], problems: list[Problem]
) -> dict[str, Path]:
    if name == "all":
        return dict(days)
    if not isinstance(listed := own.get("days"), list):
        return {day: folder for day, folder in days.items() if name in (day, folder.parent.name)}
    where = f"plans/{name}/week.yaml"
    for lost in (day for day in listed if day not in days):
        problems.append(Problem(where, "days", f"no day '{lost}'", nearest(str(lost), days, noun="days")))
    for lost in (day for day, folder in days.items() if folder.parent.name == name and day not in listed):
        problems.append(Problem(where, "days", f"'{lost}' is not listed", "list it, or remove its folder"))
    return {day: days[day] for day in listed if day in days}


def _own_file(root: Path, name: str, problems: list[Problem]) -> Mapping[str, Any]:
    """What a week's or a plan's own file says; empty when there is none or it cannot be read."""
    file = root / "plans" / name / "week.yaml"
    try:
        found = parsed.cached(file, root, ("plan",)) if file.exists() else {}
    except Mistakes as mistakes:
        problems += mistakes.problems
        return {}
    return found


def load(root: Path, name: str) -> dict[str, Any]:
    """The plan as a plain mapping `{id, title, days: {day18: …}}`. Raises Mistakes for an unknown name or bad YAML."""
    raw, problems = load_sound(root, name)
    if problems:
        raise Mistakes(problems)
    return raw


def load_sound(root: Path, name: str) -> tuple[dict[str, Any], list[Problem]]:
    """The plan with those of its files that can be read, and what is wrong with the others."""
    days = day_folders(root)
    if not days:
        raise mistake("there is no plan", where=str(root / "plans"), remedy="a day is plans/weekNN/dayNN/day.yaml")
    if name not in (known := _names(days)):
        raise mistake(f"no plan '{name}'", where=HERE, key="plan", remedy=nearest(name, known, noun="plans"))
    problems: list[Problem] = []
    own = _own_file(root, name, problems)
    chosen = _members(root, name, days, own, problems)
    raw: dict[str, Any] = {}
    for day, folder in chosen.items():
        try:
            raw[day] = parsed.cached(folder / "day.yaml", root, ("plan", "days", day))
        except Mistakes as found:
            problems += found.problems
    title: Any = raw[name].get("title") if name in raw else {"en": "All days", "zh": "全部"}
    return {"id": name, "title": own.get("title", title), "days": raw}, problems
