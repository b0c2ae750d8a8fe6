"""What a report is made from: records, the plan's own files, and the code that writes it."""

from __future__ import annotations

from pathlib import Path

from runner import measure, spec, store
from runner.about import reported
from runner.plan import Day, members

CODE = Path(__file__).resolve().parent.parent
WRITERS = (CODE / "runner" / "report", CODE / "tasks" / "documents")


def records(day: Day, root: Path, *, weekly: bool) -> list[Path]:
    """The records that a document speaks of: its day's with their variants, or those of its week and what it covers."""
    if not weekly:
        adhoc = [store.experiment_dir(root, day.week, day.id, each.id) / "record.json" for each in day.experiments]
        plain = adhoc if day.week == "adhoc" else measure.day_records(day.id, root)
        return [path for record in plain for path in _with_variants(record)]
    return [path for each in _days(day.week, root) for path in measure.day_records(each, root) if path.exists()]


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
    return spec.digest(spec.inputs(files, root))


def _with_variants(record: Path) -> list[Path]:
    folder = record.parent
    found = [record, *sorted(folder.parent.glob(f"{folder.name}+*/record.json"))]
    return [path for path in found if path.exists()]


def _days(week: str, root: Path) -> dict[str, Path]:
    """The days that a week's documents show, each once."""
    return {day: folder for each in reported(week, root) for day, folder in members(root, each).items()}
