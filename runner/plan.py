"""Plans as frozen values: YAML → Plan, Day, Experiment, Deliverable. Light: no Hydra, pydantic or tasks.

`load` reads plain mappings (what Hydra composes and overrides); `build` turns a mapping into values and finds
every structural mistake at once. What a kind says about its params is checked in `runner.jobs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import yamlfile
from runner.errors import Mistakes, Problem, mistake, nearest
from runner.reader import Reader, Sources

MAX_POINTS = 10_000
MAKERS = ("reference", "report", "weekly_report")
Text = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Experiment:
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


@dataclass(frozen=True, slots=True)
class Deliverable:
    path: str
    made_by: str
    checks: tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Day:
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


@dataclass(frozen=True, slots=True)
class Plan:
    id: str
    title: Text
    days: tuple[Day, ...]


def day_folders(root: Path) -> dict[str, Path]:
    """Every day's folder by id, in order: `day18` → plans/week03/day18."""
    weeks = sorted(path for path in (root / "plans").glob("week[0-9]*") if path.is_dir())
    days = [day for week in weeks for day in sorted(week.glob("day[0-9]*"), key=lambda d: (len(d.name), d.name))]
    return {day.name: day for day in days}


def names(root: Path) -> list[str]:
    """What `plan=` may name."""
    days = day_folders(root)
    return [*sorted({folder.parent.name for folder in days.values()}), *days, "all"]


def load(root: Path, name: str) -> dict[str, Any]:
    """The plan as a plain mapping `{id, title, days: {day18: …}}`. Raises Mistakes for an unknown name or bad YAML."""
    days = day_folders(root)
    if name not in (known := names(root)):
        raise mistake(f"no plan '{name}'", key="plan", remedy=nearest(name, known, noun="plans"))
    chosen = {day: path for day, path in days.items() if name in ("all", day, path.parent.name)}
    problems: list[Problem] = []
    raw: dict[str, Any] = {}
    for day, folder in chosen.items():
        try:
            raw[day] = yamlfile.cached(folder / "day.yaml", root)
        except Mistakes as found:
            problems += found.problems
    if problems:
        raise Mistakes(problems)
    return {"id": name, "title": _title(root, name, raw), "days": raw}


def _title(root: Path, name: str, days: Mapping[str, Any]) -> Any:
    week = root / "plans" / name / "week.yaml"
    if week.exists():
        return yamlfile.cached(week, root).get("title", {})
    return days[name].get("title", {}) if name in days else {"en": "All days", "zh": "全部"}


def build(raw: Mapping[str, Any], root: Path, overridden: frozenset[str] = frozenset()) -> Plan:
    """Values from a plan's mapping. `overridden` are the full keys set on the command line, for the messages.

    Raises Mistakes with every structural mistake of every day.
    """
    sources = Sources(root, day_folders(root), overridden)
    problems: list[Problem] = []
    top = Reader(raw["days"], ("plan", "days"), sources, problems)
    days = tuple(_day(reader, sources) for reader in top.each_mapping())
    _unique(days, sources, problems)
    if problems:
        raise Mistakes(problems)
    return Plan(str(raw["id"]), dict(raw["title"]), days)


def _day(reader: Reader, sources: Sources) -> Day:
    day, folder = reader.key, sources.folders[reader.key]
    reader.expect("id", day, "the folder's name")
    experiments = reader.mapping("experiments")
    deliverables = reader.mapping("deliverables")
    checklist = reader.mapping("checklist")
    value = Day(
        id=day,
        week=folder.parent.name,
        title=reader.text("title"),
        goals=reader.texts("goals"),
        focus=reader.texts("focus"),
        blocks=tuple({"hours": item.number("hours"), **item.both()} for item in reader.items("blocks")),
        experiments=tuple(_experiment(item, folder) for item in experiments.each_mapping()),
        deliverables=tuple(_deliverable(item, experiments.value, folder) for item in deliverables.each_mapping()),
        leetcode=checklist.text("leetcode"),
        questions=checklist.texts("questions"),
        notes=reader.texts("notes", required=False),
        folder=folder,
    )
    checklist.close()
    reader.close()
    return value


def _experiment(item: Reader, folder: Path) -> Experiment:
    matrix = item.mapping("matrix", required=False)
    points = 1
    for axis in matrix.value:
        values = matrix.plain(axis, list)
        points *= len(values or ())
        if values is not None and not values:
            matrix.problem(axis, "has no values", "give at least one value, or leave the axis out")
    if points > MAX_POINTS:
        item.problem("matrix", f"spans {points:,} points; the most is {MAX_POINTS:,}", "drop values or split it")
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
        after=item.words("after", required=False),
        reads=item.words("reads", required=False),
        claims=tuple(_claim(claim) for claim in item.items("claims", required=False)),
        timeout_s=item.number("timeout_s", default=600, above=0),
        minutes=item.number("minutes", default=1, above=0),
    )
    item.close()
    return value


def _claim(item: Reader) -> Mapping[str, Any]:
    claim = {
        "text": item.text("text"),
        "metric": item.plain("metric", str) or "",
        "at": dict(item.mapping("at", required=False).value),
        "over": dict(item.mapping("over", required=False).value),
        "op": item.plain("op", str) or "",
        "value": item.number("value"),
    }
    if claim["op"] not in (">=", "<=", ">", "<"):
        item.problem("op", f"'{claim['op']}' compares nothing", "use >=, <=, > or <")
    item.close()
    return claim


def _deliverable(item: Reader, experiments: Mapping[str, Any], folder: Path) -> Deliverable:
    path = Path(item.key)
    if path.is_absolute() or ".." in path.parts:
        item.problem("", "leaves the day's folder", "name a file inside the day's folder")
    elif any(part.is_symlink() for part in (folder / path, *(folder / path).parents) if part.is_relative_to(folder)):
        item.problem("", "is a symlink", "put the file itself into the day's folder")
    made_by = item.plain("made_by", str) or ""
    if made_by not in (known := (*MAKERS, *experiments)):
        item.problem("made_by", f"'{made_by}' makes nothing", nearest(made_by, known, noun="makers"))
    checks = []
    for check in item.items("checks"):
        checks.append((check.plain("check", str) or "", check.mapping("params", required=False).value))
        check.close()
    if not checks:
        item.problem("checks", "is empty", "a deliverable is proved by at least one check")
    item.close()
    return Deliverable(item.key, made_by, tuple(checks))


def _unique(days: tuple[Day, ...], sources: Sources, problems: list[Problem]) -> None:
    first: dict[str, str] = {}
    for day in days:
        ids = [experiment.id for experiment in day.experiments]
        for experiment in day.experiments:
            path = ("plan", "days", day.id, "experiments", experiment.id)
            if first.setdefault(experiment.id, day.id) != day.id:
                what = f"the id is used in {first[experiment.id]} too"
                problems.append(Problem(sources.where(path), ".".join(path), what, "ids are unique in a plan"))
            after = (*path, "after")
            problems += [
                Problem(
                    sources.where(after), ".".join(after), f"no experiment '{name}' on this day", nearest(name, ids)
                )
                for name in experiment.after
                if name not in ids
            ]
