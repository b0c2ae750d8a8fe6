"""After the measuring: prove what was delivered, write the reports from records, prove those too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import environments, measure, report, store, verify
from runner.about import about, reported
from runner.build import build
from runner.jobs import Proof
from runner.plan import Day, Plan, load, members
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
        known = records_for(proof, request.root)
        provision([proof], machine, request, screen)
        gaps = verify.gaps(proof, machine, request)
        if stored := verify.current(proof, request.root, known, gaps):
            verdicts.append(stored)
        elif verify.due(proof, request.root):
            screen.progress(f"checking {proof.day.id}/{proof.deliverable.path}")
            verdicts.append(verify.run(proof, request, known, gaps))
            screen.verdict(proof, verdicts[-1])
    return verdicts


def provision(proofs: Sequence[Proof], machine: Machine, request: Request, screen: Screen) -> None:
    """Make the environments that the checks need and this machine can use."""
    for needs in (check.needs(params) for proof in proofs for _, check, params in proof.checks):
        if not lacks(needs, machine):
            environments.provision_all(request.root, needs, request.mode, screen.progress)


def records_for(proof: Proof, root: Path) -> list[Path]:
    """The records that a deliverable speaks of: its day's, or its whole week's for the weekly documents."""
    weekly = proof.deliverable.made_by == "weekly_report"
    return _week_records(proof.day.week, root) if weekly else _there(measure.day_records(proof.day.id, root))


def _week_records(week: str, root: Path) -> list[Path]:
    weeks = reported(week, root)
    days = dict.fromkeys(day for each in weeks for day in members(root, each))
    return [path for day in days for path in _there(measure.day_records(day, root))]


def _there(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.exists()]


def write(day: Day, root: Path, lang: str, *, only_outdated: bool = False) -> list[Path]:
    """The day's report and, on the week's last day, the weekly documents: rebuilt from records alone.

    English is always written, for the checks read it; another language is written beside it.
    """
    if day.week != "adhoc":
        [day] = build(load(root, day.id), root).days  # whole, whatever was asked for
    place = store.day_dir(root, day.week, day.id)
    written = []
    for language in dict.fromkeys(("en", lang)):
        if not only_outdated or _outdated(place / in_language(file_name(day), language), _sources(day, root)):
            written.append(report.write_day(day, place / "experiments", place, language))
        weekly = [in_language(d.path, language) for d in day.deliverables if d.made_by == "weekly_report"]
        sources = [*_week_records(day.week, root), *_sources(day, root)] if weekly else []
        if weekly and (not only_outdated or any(_outdated(place / path, sources) for path in weekly)):
            weeks = tuple(reported(day.week, root))
            days = [each for week in weeks for each in build(load(root, week), root).days]
            said, ids = about(day.week, root).model_dump(), {each.id for each in days}
            stored = store.records(root, tuple(dict.fromkeys(each.week for each in days)))
            shown = [path for path in stored if path.parents[2].name in ids]
            written += report.write_week(day.week, days, shown, place, language, said)
    return written


def _sources(day: Day, root: Path) -> list[Path]:
    """What a day's report is made from."""
    place = store.day_dir(root, day.week, day.id)
    records = _there(measure.day_records(day.id, root)) if day.week != "adhoc" else []
    own = {d.path for d in day.deliverables if d.made_by in verify.REPORTS}
    verdicts = [path for path in (place / "verdicts").glob("*.json") if path.stem not in own]
    return [*records, *verdicts, *_there([day.folder / "day.yaml"])]


def _outdated(target: Path, sources: Sequence[Path]) -> bool:
    """As make sees it: not there, or older than something that it is made from. The learner's own edit stays."""
    if not target.exists():
        return True
    if edited(target):
        return False
    made = target.stat().st_mtime_ns
    return any(source.stat().st_mtime_ns > made for source in sources)
