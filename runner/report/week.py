"""The week's report in Markdown and HTML, the architecture picture and the résumé bullets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.report import day as day_report
from runner.report import facts, files, html
from runner.report.shapes import Day
from runner.report.words import WORDS
from tasks.documents import architecture, bullets, parts, stored, tables
from tasks.documents.figures import number
from tasks.documents.stored import Record

BULLETS = 3


def write_week(
    week_id: str, days: Sequence[Day], records_of: Iterable[Path], dest: Path, lang: str = "en",
    plan: Mapping[str, Any] | None = None,
) -> list[Path]:  # fmt: skip
    """Write the documents of a week or another plan into `dest`, the folder of its last day, and return their paths.

    They are the report (`names`), its twin `.html`, the résumé bullets and, for a week that draws one,
    `architecture.svg`. What the bullets may say and the published figures come from the week's own file (`plan`:
    highlights, published) and from the stanzas of its `document` records.
    """
    records, (report_name, resume_name) = stored.load(records_of), names(week_id)
    plain = [record for record in records if not record["variant"]]
    resume = resume_text(named(plan or {}, plain, "highlights"), plain, lang)
    pictured = week_id in parts.PICTURES
    picture = dest / files.in_language("architecture.svg", lang)
    if pictured:
        files.write(picture, architecture_svg(plain, week_id, lang))
    context = week_context(days, records, dest, lang)
    context |= {
        "heading": heading(week_id, days, (plan or {}).get("title"), lang),
        "resume": resume.strip(),
        "pictured": pictured,
        "architecture": picture.name if architecture.shown(plain) else "",
        "published": published(named(plan or {}, plain, "published"), plain, lang),
    }
    text = day_report.tidy(files.render("week.md.j2", **context))
    report = files.write(dest / files.in_language(report_name, lang), text)
    page = html.page(text, dest, context, lang)
    return [
        report,
        files.write(report.with_suffix(".html"), page),
        files.write(dest / files.in_language(resume_name, lang), resume),
        *([picture] if pictured else []),
    ]


def names(week_id: str) -> tuple[str, str]:
    """The report and the bullets: `weekly_report_wk3.md` as the curriculum has it, `report_four_weeks.md`."""
    if week := re.fullmatch(r"week0*(\d+)", week_id):
        return f"weekly_report_wk{week[1]}.md", f"resume_bullet_week{week[1]}.txt"
    return f"report_{week_id}.md", f"resume_bullets_{week_id}.txt"


def heading(week_id: str, days: Sequence[Day], title: Any, lang: str) -> str:
    """`Week 3 · days 15 to 21`; another plan's own title."""
    if week := re.fullmatch(r"week0*(\d+)", week_id):
        first, last = (stored.number_of(day.id) for day in (days[0], days[-1]))
        return WORDS[lang]["heading"].format(week[1], first, last)
    return stored.said(title, lang) or week_id


def week_context(days: Sequence[Day], records: Sequence[Record], dest: Path, lang: str) -> dict[str, Any]:
    """Everything the week's template shows."""
    by_day = [day_context(day, records, lang) for day in days]
    shown = [each for day in by_day for each in day["shown"]]
    measured = [each.record for each in shown if each.record]
    return {
        "days": by_day,
        "counts": facts.counts(shown),
        "confirmed": len(facts.claims(shown, "confirmed")),
        "refuted": facts.claims(shown, "refuted"),
        "next_steps": facts.next_steps(shown),
        "pictures": day_report.pictures(shown, dest),
        "machines": facts.machines(measured),
        "versions": facts.versions(measured),
        "revisions": facts.revisions(measured),
        "t": WORDS[lang],
        "number": number,
        "cited": stored.cited,
    }


def day_context(day: Day, records: Sequence[Record], lang: str) -> dict[str, Any]:
    """One day of the week: its experiments, their summary table, its notes."""
    shown = facts.of_day(day, records, lang)
    return {
        "id": day.id,
        "short": day.id.removeprefix("day") if day.id.removeprefix("day").isdigit() else day.id,
        "heading": day_report.heading(day, lang),
        "title": stored.said(day.title, lang),
        "shown": shown,
        "summary": summary(shown, lang).markdown(),
        "notes": [stored.said(note, lang) for note in day.notes],
    }


def summary(shown: Sequence[facts.Shown], lang: str) -> tables.Table:
    """One row for each experiment of the plan, measured or not: name, main result, tier."""
    words = WORDS[lang]
    rows = [
        [
            f"{each.title} `{each.day}/{each.id}`",
            tables.main_result(each.record, lang) if each.record else "",
            tables.badge(each.badge),
        ]
        for each in shown
    ]
    return tables.Table([words["experiment"], words["main"], words["tier"]], [False] * 3, rows)


def named(plan: Mapping[str, Any], records: Sequence[Record], name: str) -> list[dict[str, Any]]:
    """A list that the week's own file and the stanzas of the `document` records carry."""
    return list(plan.get(name) or []) + [
        each
        for record in records
        if record["kind"] == "document"
        for each in record["stanza"].get("params", {}).get(name) or []
    ]


def published(figures: Sequence[Mapping[str, Any]], records: Sequence[Record], lang: str) -> str:
    """Other people's figures with their hardware beside our result with ours; empty when the plan names none."""
    words, by_name = WORDS[lang], {stored.name(record): record for record in records}
    rows = [
        [
            stored.said(each["what"], lang),
            each["figure"],
            stored.said(each["hardware"], lang),
            each["source"],
            f"`{each['experiment']}` {tables.main_result(by_name[each['experiment']], lang, each['metric'])}",
            tables.badge(stored.label(by_name[each["experiment"]], lang)),
        ]
        for each in figures
        if each["experiment"] in by_name
    ]
    header = [words[key] for key in ("published_what", "figure", "hardware", "source", "ours", "tier")]
    return tables.Table(header, [False] * 6, rows).markdown() if rows else ""


def resume_text(highlights: Sequence[Mapping[str, Any]], records: Sequence[Record], lang: str) -> str:
    """The three bullets, or as many as the records bear out and what is missing for the rest."""
    return bullets.written(highlights, records, BULLETS, lang)


def architecture_svg(records: Sequence[Record], week: str, lang: str) -> str:
    """The picture of the parts that ran, row by row as the week lays them out."""
    ran = {part.id: part for part in architecture.shown(records, lang)}
    rows = []
    for row in parts.PICTURES.get(week, ()):
        boxes = [ran[part.id] for part in row.parts if part.id in ran]
        framed = bool(row.frame) and all(row.frame.lower() in box.backend for box in boxes)
        if boxes:
            rows.append({"boxes": boxes, "frame": row.frame if framed else "", "linked": row.linked})
    return files.render("architecture.svg.j2", rows=rows, t=WORDS[lang])
