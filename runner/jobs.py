"""Plan × catalog: everything is validated before anything runs, then expanded into jobs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner import about, settings
from runner.build import build_sound, leaves
from runner.errors import Mistakes, Problem, nearest
from runner.findings import findings
from runner.plan import Day, Deliverable, Experiment, Plan, day_folders, load_sound
from runner.reader import Place, Sources
from runner.source import source
from tasks.api import Check, Kind, Needs, Params
from tasks.catalog import CHECKS, KINDS


@dataclass(frozen=True)
class Job:
    """One experiment, ready to be measured. `needs` are its backends, best first."""

    experiment: Experiment
    day: Day
    module: str
    params: Params
    points: tuple[Params, ...]
    needs: tuple[Needs, ...]
    source: tuple[Path, ...]  # the kind's own code

    @property
    def id(self) -> str:
        return self.experiment.id


@dataclass(frozen=True)
class Proof:
    """One deliverable with its checks."""

    deliverable: Deliverable
    day: Day
    checks: tuple[tuple[str, Check, Params], ...]


@dataclass(frozen=True)
class Work:
    jobs: tuple[Job, ...]
    proofs: tuple[Proof, ...]


def validated(raw: Mapping[str, Any], root: Path, overridden: frozenset[str] = frozenset()) -> tuple[Plan, Work]:
    """A plan's mapping as values and as work. Raises Mistakes with everything that is wrong, whoever finds it."""
    plan, problems = build_sound(raw, root, overridden)
    return plan, expand(plan, root, overridden, problems)


def read(root: Path, name: str) -> tuple[Plan, Work]:
    """A plan's files as values and as work. Raises Mistakes with everything that is wrong in any of them."""
    raw, unread = load_sound(root, name)
    plan, problems = build_sound(raw, root)
    return plan, expand(plan, root, found=[*unread, *problems])


def expand(plan: Plan, root: Path, overridden: frozenset[str] = frozenset(), found: Iterable[Problem] = ()) -> Work:
    """Every job and proof of a plan. Raises Mistakes with everything that is wrong, what was `found` before too."""
    sources, problems = Sources(root, day_folders(root), overridden), list(found)
    jobs: list[Job] = []
    proofs: list[Proof] = []
    for day in plan.days:
        for experiment in day.experiments:
            adhoc = day.week == "adhoc"  # its params are keys of the command line
            path = () if adhoc else ("plan", "days", day.id, "experiments", experiment.id)
            place = Place(sources, path, problems)
            jobs += _job(experiment, day, place)
        for deliverable in day.deliverables:
            place = Place(sources, ("plan", "days", day.id, "deliverables", deliverable.path), problems)
            proofs.append(_proof(deliverable, day, place))
    for week in dict.fromkeys(day.week for day in plan.days):
        said = {problem.where for problem in problems}  # a plan's title is read with the plan
        problems += [problem for problem in about.mistakes(week, root) if problem.where not in said]
    if problems:
        raise Mistakes(problems)
    return Work(tuple(jobs), tuple(proofs))


def _job(experiment: Experiment, day: Day, place: Place) -> Iterator[Job]:
    if experiment.kind not in KINDS:
        place.problem(["kind"], f"no kind '{experiment.kind}'", nearest(experiment.kind, KINDS, noun="kinds"))
        return
    kind = KINDS[experiment.kind]
    params = _valid(kind.Params, experiment.params, place, ("params",))
    points = _points(kind, experiment, place)
    _metrics(kind, experiment, place)
    _uses(experiment, day, place)
    if params is None or points is None:
        return
    needs = tuple(kind.needs(params))
    known = settings.environments(place.sources.root)
    for name in {name for one in needs for name in one.environments} - {*known}:
        place.problem(
            ["kind"], f"{experiment.kind} needs the environment '{name}', which has no lock", nearest(name, known)
        )
    yield Job(experiment, day, kind.__name__, params, points, needs, source(kind.__name__))


def _proof(deliverable: Deliverable, day: Day, place: Place) -> Proof:
    checks = []
    for index, (name, given) in enumerate(deliverable.checks):
        at = ("checks", str(index))
        if name not in CHECKS:
            place.problem((*at, "check"), f"no check '{name}'", nearest(name, CHECKS, noun="checks"))
            continue
        params = _valid(CHECKS[name].Params, given, place, (*at, "params"))
        if params is not None:
            checks.append((name, CHECKS[name], params))
    laid = deliverable.made_by == "reference"
    if laid and not (day.folder / deliverable.path).exists():
        place.problem(["made_by"], f"there is no reference file {deliverable.path}", f"put it into {day.folder.name}/")
    return Proof(deliverable, day, tuple(checks))


def _valid(model: type[Params], given: Mapping[str, Any], place: Place, inner: tuple[str, ...]) -> Params | None:
    found = findings(model, given)
    for key, what, remedy in found:
        place.problem((*inner, *key), what, remedy)
    return None if found else model.model_validate(dict(given))


def _points(kind: Kind, experiment: Experiment, place: Place) -> tuple[Params, ...] | None:
    """Every cell of the matrix as the kind's Point."""
    before = len(place.problems)
    for axis, values in experiment.matrix.items():
        if axis not in kind.Point.model_fields:
            remedy = nearest(axis, kind.Point.model_fields, noun=f"axes of {experiment.kind}")
            place.problem(["matrix", axis], "is not an axis of this kind", remedy)
            continue
        seen = [json.dumps(value, sort_keys=True) for value in values]
        for index, value in enumerate(values):
            if seen[index] in seen[:index]:
                place.problem(["matrix", axis, str(index)], f"{value!r} is given twice", "a point is measured once")
            for key, what, remedy in findings(kind.Point, {axis: value}):
                if key[:1] == (axis,):  # the other axes are not given here
                    place.problem(["matrix", axis, str(index)], what, remedy)
    if len(place.problems) > before:
        return None
    cells = itertools.product(*experiment.matrix.values())
    try:
        return tuple(kind.Point.model_validate(dict(zip(experiment.matrix, cell, strict=True))) for cell in cells)
    except ValidationError as error:
        place.problem(["matrix"], "; ".join(detail["msg"] for detail in error.errors()))
        return None


def _metrics(kind: Kind, experiment: Experiment, place: Place) -> None:
    for index, name in enumerate(experiment.metrics):
        if name not in kind.METRICS:
            remedy = nearest(name, kind.METRICS, noun=f"metrics of {experiment.kind}")
            place.problem(["metrics", str(index)], f"{experiment.kind} does not measure '{name}'", remedy)
    for index, claim in enumerate(experiment.claims):
        at = ("claims", str(index))
        if claim["metric"] not in experiment.metrics:
            remedy = nearest(claim["metric"], experiment.metrics, noun="metrics of this experiment")
            place.problem((*at, "metric"), f"'{claim['metric']}' is not measured here", remedy)
        for side in ("at", "over"):
            for axis, value in claim[side].items():
                _claimed(axis, value, experiment.matrix, (*at, side, axis), place)


def _claimed(axis: str, value: Any, matrix: Mapping[str, list[Any]], at: tuple[str, ...], place: Place) -> None:
    """A claim speaks of a point of the matrix; one that the command line took out of it stays unknown."""
    if axis not in matrix:
        place.problem(at, "is not an axis of the matrix", nearest(axis, matrix))
    elif value not in matrix[axis] and not place.set_by_hand("matrix", axis):
        place.problem(at, f"{value!r} is not in the matrix", f"it has {matrix[axis]}")


def _uses(experiment: Experiment, day: Day, place: Place) -> None:
    made = {d.path for d in day.deliverables if d.made_by != "reference"}
    for index, name in enumerate(experiment.uses):
        if leaves(name):
            place.problem(["uses", str(index)], f"'{name}' leaves the day's folder", "name a file inside it")
        elif (day.folder / name).is_symlink():
            place.problem(["uses", str(index)], f"'{name}' is a symlink", "put the file itself into the day's folder")
        elif name not in made and not (day.folder / name).exists():
            files = [path.name for path in day.folder.iterdir() if path.name != "day.yaml"]
            place.problem(["uses", str(index)], f"the day has no file '{name}'", nearest(name, files, noun="files"))
