"""The report of one day: `report_day18.md`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from runner.report import facts, files
from runner.report.shapes import Day
from runner.report.words import WORDS
from tasks.documents import stored, tables
from tasks.documents.figures import number
from tasks.documents.stored import Record


def write_day(day: Day, records_dir: Path, dest: Path, lang: str = "en") -> Path:
    """Write the day's report into the folder `dest` and return its path.

    `records_dir` holds the day's experiments (`artifacts/week03/day18/experiments`), `verdicts/` lies beside it.
    Figures go to `dest/plots`. An experiment without a record is listed as not run.
    """
    records = stored.load(records_dir.glob("*/record.json"))
    text = day_text(day, records, records_dir.parent, dest, lang)
    return files.write(dest / files.in_language(file_name(day), lang), text)


def file_name(day: Day) -> str:
    """What the plan calls the day's report, else `report_day18.md` or `report_days_1_3.md`."""
    asked = [deliverable.path for deliverable in day.deliverables if deliverable.made_by == "report"]
    return asked[0] if asked else f"report_{short(day).replace('-', '_')}.md"


def short(day: Day) -> str:
    """`day08` → `day8`, as the curriculum names its reports."""
    return re.sub(r"(?<=day)0+", "", day.id)


def day_text(day: Day, records: Sequence[Record], folder: Path, dest: Path, lang: str) -> str:
    """The report as Markdown; writes the figures that it shows."""
    shown = facts.of_day(day, records, lang)
    measured = [each.record for each in shown if each.record]
    text = files.render(
        "day.md.j2",
        heading=heading(day, lang),
        shown=shown,
        counts=facts.counts(shown),
        machines=facts.machines(measured),
        versions=facts.versions(measured),
        revisions=facts.revisions(measured),
        pictures=pictures(shown, dest),
        deliverables=facts.verdicts(day, folder),
        notes=[stored.said(note, lang) for note in day.notes],
        t=WORDS[lang],
        number=number,
        cited=stored.cited,
        name=stored.name,
        table=lambda record: tables.results(record, lang).markdown(),
    )
    return tidy(text)


def heading(day: Day, lang: str) -> str:
    """`Day 18 · Several models on one Triton`."""
    count, title = short(day).removeprefix("day"), stored.said(day.title, lang)
    if not count.isdigit():
        return f"{day.id} · {title}"
    return f"第 {count} 天 · {title}" if lang == "zh" else f"Day {count} · {title}"


def pictures(shown: Sequence[facts.Shown], dest: Path) -> dict[str, list[str]]:
    """Experiment → links to its figures."""
    return {f"{each.day}/{each.id}": facts.PLOTS.of(each.record, dest) if each.record else [] for each in shown}


def tidy(text: str) -> str:
    """One blank line where the template left several, one newline at the end."""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"
