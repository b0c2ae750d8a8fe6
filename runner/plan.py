"""Plans as values: YAML → Plan, Day, Experiment, Deliverable. Light: no Hydra, pydantic or tasks, nor `dataclasses`.

`load` reads plain mappings (what Hydra composes and overrides); `runner.build` turns a mapping into values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from runner import parsed
from runner.errors import Mistakes, Problem, mistake, nearest

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
    leetcode: Text
    questions: tuple[Text, ...]
    notes: tuple[Text, ...]
    folder: Path  # where the day's reference files are

    @property
    def checklist(self) -> tuple[str, ...]:
        return ("leetcode", *(f"question-{n}" for n in range(1, len(self.questions) + 1)))


class Plan(NamedTuple):
    id: str
    title: Text
    days: tuple[Day, ...]


def day_folders(root: Path) -> dict[str, Path]:
    """Every day's folder by id, in order: `day18` → plans/week03/day18."""
    plans, days = root / "plans", dict[str, Path]()
    for week in sorted(_numbered(plans, "week")):
        folder = plans / week
        days |= {day: folder / day for day in sorted(_numbered(folder, "day"), key=lambda name: (len(name), name))}
    return days


def _numbered(folder: Path, word: str) -> list[str]:
    """The folders in it that are named word + number."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if entry.is_dir()]
    except FileNotFoundError:
        return []
    return [name for name in names if name.startswith(word) and name[len(word) : len(word) + 1].isdigit()]


def names(root: Path) -> list[str]:
    """What `plan=` may name."""
    return _names(day_folders(root))


def _names(days: Mapping[str, Path]) -> list[str]:
    return [*sorted({folder.parent.name for folder in days.values()}), *days, "all"]


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
        raise mistake(f"no plan '{name}'", where="command line", key="plan", remedy=nearest(name, known, noun="plans"))
    chosen = {day: path for day, path in days.items() if name in ("all", day, path.parent.name)}
    problems: list[Problem] = []
    raw: dict[str, Any] = {}
    for day, folder in chosen.items():
        try:
            raw[day] = parsed.cached(folder / "day.yaml", root, ("plan", "days", day))
        except Mistakes as found:
            problems += found.problems
    title: Any = raw[name].get("title") if name in raw else {"en": "All days", "zh": "全部"}
    if (week := root / "plans" / name / "week.yaml").exists():
        try:
            title = parsed.cached(week, root, ("plan",)).get("title")
        except Mistakes as found:
            problems += found.problems
    return {"id": name, "title": title, "days": raw}, problems
