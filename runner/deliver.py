"""After the measuring: prove what was delivered, write the reports from records, prove those too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import environments, measure, origins, report, store, verify
from runner.about import about, reported
from runner.build import build
from runner.jobs import Proof
from runner.plan import Day, Plan, load
from runner.preflight import Machine, lacks
from runner.report.day import file_name
from runner.report.files import edited, in_language
from runner.request import Request
from runner.show import Screen

Verdicts = list[Mapping[str, Any]]


def prove_and_report(
    plan: Plan, proofs: Sequence[Proof], machine: Machine, request: Request, screen: Screen
) -> Verdicts:
    """Every verdict of the plan; what still holds is neither checked nor written again."""
    verdicts = prove([p for p in proofs if p.deliverable.made_by not in verify.REPORTS], machine, request, screen)
    for day in plan.days:
        for path in write(day, request.root, request.lang, only_outdated=True):
            screen.line(f"[dim]· wrote {path.relative_to(request.root)}[/dim]")
    reports = [p for p in proofs if p.deliverable.made_by in verify.REPORTS]
    return verdicts + prove(reports, machine, request, screen)


def prove(proofs: Sequence[Proof], machine: Machine, request: Request, screen: Screen) -> Verdicts:
    """The verdict on each deliverable that is there or ought to be."""
    verdicts: Verdicts = []
    for proof in proofs:
        weekly = proof.deliverable.made_by == "weekly_report"
        known = origins.records(proof.day, request.root, weekly=weekly) + read_by_maker(proof, request.root)
        provision([proof], machine, request, screen)
        gaps = verify.gaps(proof, machine, request)
        if stored := verify.current(proof, request.root, known, gaps):
            verdicts.append(stored)
        elif verify.due(proof, request.root):
            screen.progress(f"checking {proof.day.id}/{proof.deliverable.path}")
            verdicts.append(verify.run(proof, request, known, gaps))
            screen.verdict(proof, verdicts[-1])
    return verdicts


def read_by_maker(proof: Proof, root: Path) -> list[Path]:
    """The records of other days that the experiment read which made the deliverable: what it wrote speaks of them."""
    days = [name for each in proof.day.experiments if each.id == proof.deliverable.made_by for name in each.reads]
    found = [path for name in days if name != proof.day.id for path in measure.day_records(name, root)]
    return [path for path in found if path.exists()]


def provision(proofs: Sequence[Proof], machine: Machine, request: Request, screen: Screen) -> None:
    """Make the environments that the checks need and this machine can use."""
    for needs in (check.needs(params) for proof in proofs for _, check, params in proof.checks):
        if not lacks(needs, machine):
            environments.provision_all(request.root, needs, request.mode, screen.progress)


def write(day: Day, root: Path, lang: str, *, only_outdated: bool = False) -> list[Path]:
    """The day's report and, on the week's last day, the weekly documents: rebuilt from records alone.

    English is always written, for the checks read it; another language is written beside it.
    """
    if day.week != "adhoc":
        [day] = build(load(root, day.id), root).days  # whole, whatever was asked for
    file = store.made_file(root, day.week, day.id)
    made, written = store.read_json(file) or {}, list[Path]()
    for language in dict.fromkeys(("en", lang)):
        for weekly, names in _documents(day, language):
            now = origins.digest(day, root, weekly=weekly)
            if only_outdated and all(_holds(file.with_name(name), made.get(name) == now) for name in names):
                continue
            writer = _write_week if weekly else _write_day
            written += writer(day, root, file.parent, language)
            made |= dict.fromkeys(names, now)
    if written:
        store.write_json(file, made, durable=False)
    return written


def _holds(document: Path, same: bool) -> bool:
    """Whether a document is there, and made from what there is now or the learner's own edit."""
    return document.exists() and (same or edited(document))


def _documents(day: Day, language: str) -> Iterator[tuple[bool, list[str]]]:
    """What is written together: the day's report; on a week's last day the weekly documents."""
    yield False, [in_language(file_name(day), language)]
    if weekly := [in_language(d.path, language) for d in day.deliverables if d.made_by == "weekly_report"]:
        yield True, weekly


def _write_day(day: Day, root: Path, place: Path, language: str) -> list[Path]:
    return [report.write_day(day, place / "experiments", place, language)]


def _write_week(day: Day, root: Path, place: Path, language: str) -> list[Path]:
    days = [each for week in reported(day.week, root) for each in build(load(root, week), root).days]
    said, ids = about(day.week, root).model_dump(), {each.id for each in days}
    stored = store.records(root, tuple(dict.fromkeys(each.week for each in days)))
    shown = [path for path in stored if path.parents[2].name in ids]
    return report.write_week(day.week, days, shown, place, language, said)
