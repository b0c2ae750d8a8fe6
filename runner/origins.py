"""What a report is made from: records, the plan's own files, and the code that writes it."""

from __future__ import annotations

from pathlib import Path

from runner import measure, spec, store
from runner.about import reported
from runner.plan import Day, members

CODE = Path(__file__).resolve().parent.parent
WRITERS = (CODE / "runner" / "report", CODE / "tasks" / "documents")


def records(day: Day, root: Path, *, weekly: bool) -> list[Path]:
    """The plan's own records that a document speaks of: its day's, or those of its week and of what that covers."""
    if weekly:
        return [path for each in _days(day.week, root) for path in measure.day_records(each, root) if path.exists()]
    adhoc = [store.experiment_dir(root, day.week, day.id, each.id) / "record.json" for each in day.experiments]
    plain = adhoc if day.week == "adhoc" else measure.day_records(day.id, root)
    return [path for path in plain if path.exists()]


def variants(day: Day, root: Path) -> list[Path]:
    """The records of what was overridden, which the day's report shows beside the plan's own."""
    return sorted((store.day_dir(root, day.week, day.id) / "experiments").glob("*+*/record.json"))


def enough(day: Day, root: Path, *, weekly: bool) -> bool:
    """Whether a document can be judged yet: something of its day was measured, or everything of its own week."""
    if not weekly:
        return bool(records(day, root, weekly=False) or variants(day, root))
    return all(path.exists() for each in members(root, day.week) for path in measure.day_records(each, root))


def beside(day: Day, root: Path, *, weekly: bool) -> list[Path]:
    """Everything else that decides what the document says, but for the verdicts on other deliverables."""
    folders = _days(day.week, root).values() if weekly else [day.folder]
    weeks = reported(day.week, root) if weekly else []
    files = [*(folder / "day.yaml" for folder in folders), *(root / "plans" / week / "week.yaml" for week in weeks)]
    return [*WRITERS, *(file for file in files if file.exists())]


def digest(day: Day, root: Path, *, weekly: bool) -> str:
    """Changes when the document would be written differently."""
    judged = [  # a report says nothing of its own verdict
        store.verdict_file(root, day.week, day.id, deliverable.path)
        for deliverable in day.deliverables
        if deliverable.made_by not in ("report", "weekly_report")
    ]
    files = [*records(day, root, weekly=weekly), *beside(day, root, weekly=weekly), *judged]
    # A sweep leaves thousands of records, each written once: their times tell as much as their contents, at once
    overridden = [] if weekly else [[path.parent.name, path.stat().st_mtime_ns] for path in variants(day, root)]
    return spec.digest([spec.inputs(files, root), overridden])


def _days(week: str, root: Path) -> dict[str, Path]:
    """The days that a week's documents show, each once."""
    return {day: folder for each in reported(week, root) for day, folder in members(root, each).items()}
