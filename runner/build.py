"""A plan's plain mapping → values, with every structural mistake found at once. Light.

What a kind says about its params is checked in `runner.jobs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from runner.errors import Mistakes, Problem, nearest
from runner.plan import Day, Deliverable, Experiment, Plan, day_folders, is_week
from runner.reader import Reader, Sources

MAX_POINTS = 10_000
MAKERS = ("reference", "report", "weekly_report")
ID = re.compile(r"[a-z0-9][a-z0-9_-]*")  # a folder's name and a step of an override's path
T = TypeVar("T")


def build(raw: Mapping[str, Any], root: Path, overridden: frozenset[str] = frozenset()) -> Plan:
    """Values from a plan's mapping. `overridden` are the full keys set on the command line, for the messages.

    Raises Mistakes with every structural mistake of every day.
    """
    plan, problems = build_sound(raw, root, overridden)
    if problems:
        raise Mistakes(problems)
    return plan


def build_sound(
    raw: Mapping[str, Any], root: Path, overridden: frozenset[str] = frozenset()
) -> tuple[Plan, list[Problem]]:
    """The plan with its well-formed experiments and deliverables, and what is wrong with the others."""
    problems: list[Problem] = []
    name = str(raw["id"])
    sources = Sources(root, day_folders(root), overridden, week_file=root / "plans" / name / "week.yaml")
    days_reader = Reader(raw["days"], ("plan", "days"), sources, problems)
    days = tuple(_day(reader, sources) for reader in days_reader.each_mapping())
    title = days[0].title if name in raw["days"] else Reader(raw, ("plan",), sources, problems).text("title")
    return Plan(name, title, days), problems


def _sound(items: Reader, make: Callable[[Reader], T]) -> tuple[T, ...]:
    """Each part of a mapping as a value, without those that a mistake was found in."""
    made = []
    for item in items.each_mapping():
        before = len(items.problems)
        value = make(item)
        if len(items.problems) == before:
            made.append(value)
    return tuple(made)


def _day(reader: Reader, sources: Sources) -> Day:
    day, folder = reader.key, sources.folders[reader.key]
    reader.expect("id", day, "the folder's name")
    experiments = reader.mapping("experiments")
    ids = [str(key) for key in experiments.value]
    deliverables = reader.mapping("deliverables")
    own_plan = not is_week(folder.parent.name)  # its source has neither hours nor questions
    checklist = reader.mapping("checklist", required=not own_plan)
    value = Day(
        id=day,
        week=folder.parent.name,
        title=reader.text("title"),
        goals=reader.texts("goals"),
        focus=reader.texts("focus"),
        blocks=tuple(
            {"hours": item.number("hours"), **item.both()} for item in reader.items("blocks", required=not own_plan)
        ),
        experiments=_sound(experiments, lambda item: _experiment(item, folder, ids, sources.folders)),
        deliverables=_sound(deliverables, lambda item: _deliverable(item, experiments.value, folder)),
        leetcode=checklist.text("leetcode") if checklist.value or not own_plan else None,
        questions=checklist.texts("questions", required=not own_plan),
        notes=reader.texts("notes", required=False),
        folder=folder,
    )
    checklist.close()
    reader.close()
    return value


def _experiment(item: Reader, folder: Path, ids: list[str], days: Mapping[str, Path]) -> Experiment:
    if not ID.fullmatch(item.key):
        item.problem("", "is no id", "small letters, digits, - and _")
    matrix = item.mapping("matrix", required=False)
    points = 1
    for axis in matrix.value:
        values = matrix.plain(axis, list)
        points *= len(values or ())
        if values is not None and not values:
            matrix.problem(axis, "has no values", "give at least one value, or leave the axis out")
    if points > MAX_POINTS:
        item.problem("matrix", f"spans {points:,} points; the most is {MAX_POINTS:,}", "drop values or split it")
    reads = item.words("reads", required=False)
    for day in reads:
        if day not in days:
            item.problem("reads", f"no day '{day}'", nearest(day, days, noun="days"))
    value = Experiment(
        id=item.key,
        day=folder.name,
        week=folder.parent.name,
        kind=item.plain("kind", str) or "",
        title=item.text("title"),
        params=item.mapping("params", required=False).value,
        matrix=matrix.value,
        metrics=item.words("metrics"),
        uses=item.words("uses", required=False),
        after=_before(item, ids),
        reads=reads,
        claims=tuple(_claim(claim) for claim in item.items("claims", required=False)),
        timeout_s=item.number("timeout_s", default=600, above=0),
        minutes=item.number("minutes", default=1, above=0),
    )
    item.close()
    return value


def _before(item: Reader, ids: list[str]) -> tuple[str, ...]:
    """The experiments that must have passed: earlier ones of the same day."""
    names = item.words("after", required=False)
    for name in names:
        if name not in ids:
            item.problem("after", f"no experiment '{name}' on this day", nearest(name, ids))
        elif ids.index(name) >= ids.index(item.key):
            item.problem("after", f"'{name}' does not come before it", "experiments run in the order they stand in")
    return names


def _claim(item: Reader) -> Mapping[str, Any]:
    claim = {
        "text": item.text("text"),
        "metric": item.plain("metric", str) or "",
        "at": dict(item.mapping("at", required=False).value),
        "over": dict(item.mapping("over", required=False).value),
        "op": item.plain("op", str) or "",
        "value": item.number("value"),
    }
    if claim["op"] and claim["op"] not in (">=", "<=", ">", "<"):
        item.problem("op", f"'{claim['op']}' compares nothing", "use >=, <=, > or <")
    item.close()
    return claim


def _deliverable(item: Reader, experiments: Mapping[str, Any], folder: Path) -> Deliverable:
    path = PurePosixPath(item.key)
    if leaves(item.key):
        item.problem("", "leaves the day's folder", "name a file inside the day's folder")
    elif any(part.is_symlink() for part in (folder / path, *(folder / path).parents) if part.is_relative_to(folder)):
        item.problem("", "is a symlink", "put the file itself into the day's folder")
    made_by = item.plain("made_by", str) or ""
    if made_by and made_by not in (known := (*MAKERS, *experiments)):
        item.problem("made_by", f"'{made_by}' makes nothing", nearest(made_by, known, noun="makers"))
    checks = []
    for check in item.items("checks"):
        checks.append((check.plain("check", str) or "", check.mapping("params", required=False).value))
        check.close()
    if item.value.get("checks") == []:
        item.problem("checks", "is empty", "a deliverable is proved by at least one check")
    item.close()
    return Deliverable(item.key, made_by, tuple(checks))


def leaves(path: str) -> bool:
    """Whether a path names something outside the folder that it is relative to, or the folder itself."""
    parts = PurePosixPath(path).parts
    return not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path
