"""Audits a report: reads its Markdown tables back and compares every cell with the records.

Tables of points are compared cell by cell (a column is known by its metric's heading, a row by its point); in every
other table each number must be one that the section's records hold. Free text is the writer's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tasks.documents import stored, tracing
from tasks.documents.figures import cell, heading
from tasks.documents.stored import Record
from tasks.documents.words import WORDS

QUOTED = ({"figure", "its hardware", "source"}, {"数据", "对方硬件", "来源"})  # how a table of others' figures is known


@dataclass
class Grid:
    """A Markdown table: the text above it that names its experiment, its header and its body, as plain text."""

    section: str
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Audit:
    """What was read: numbers and table rows in all, and what is wrong with them."""

    numbers: int = 0
    rows: int = 0
    faults: list[str] = field(default_factory=list)
    wrong_numbers: int = 0
    shown: set[str] = field(default_factory=set)  # names of the records that have a table of points
    listed: set[str] = field(default_factory=set)  # names of the records that a summary table lists with their tier

    @property
    def traced_pct(self) -> float:
        return 100.0 * (self.numbers - self.wrong_numbers) / self.numbers if self.numbers else 0.0


def grids(markdown: str) -> Iterator[Grid]:
    """The tables of a Markdown text, each with its nearest heading."""
    from markdown_it import MarkdownIt

    section, grid, row = "", Grid(""), [""]
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            section = plain(tokens[index + 1].content)
        elif token.type == "table_open":
            grid = Grid(section)
        elif token.type == "tr_open":
            row = []
        elif token.type in ("th_open", "td_open"):
            row.append(plain(tokens[index + 1].content))
        elif token.type == "tr_close" and grid.header:
            grid.rows.append(row)
        elif token.type == "tr_close":
            grid.header = row
        elif token.type == "table_close":
            yield grid


def plain(content: str) -> str:
    """Inline Markdown without code and emphasis marks."""
    return re.sub(r"[`*]", "", content).strip()


def audit(markdown: str, records: Sequence[Record]) -> Audit:
    """Every table of the text against the records. Faults name table, row and column, what is written and stored."""
    found = Audit()
    by_name = {stored.name(record): record for record in records}
    for grid in grids(markdown):
        record = subject(grid.section, by_name)
        columns = metric_columns(grid, record) if record else {}
        tier_at = tier_column(grid)
        if record and columns and tier_at is not None:
            found.shown.add(stored.name(record))
            compare(grid, record, columns, tier_at, found)
        else:
            trace(grid, [record] if record else list(records), by_name, found)
    return found


def subject(section: str, by_name: dict[str, Record]) -> Record | None:
    """The record that a heading names, by `day18/id` or by the id alone; the longest match wins."""
    words = set(re.split(r"[\s()（），,]+", section))
    hits = [name for name, record in by_name.items() if words & {name, name.partition("/")[2], stored.cited(record)}]
    return by_name[max(hits, key=len)] if hits else None


def metric_columns(grid: Grid, record: Record) -> dict[int, str]:
    """Column number → metric, by the heading in either language or the bare name."""
    names = {
        title: metric for metric in stored.metrics(record) for title in (metric, heading(metric), heading(metric, "zh"))
    }
    axes = stored.axes(record)
    return {index: names[title] for index, title in enumerate(grid.header) if title in names and title not in axes}


def tier_column(grid: Grid) -> int | None:
    """Where the tier stands, under either language's heading."""
    return next((index for index, title in enumerate(grid.header) if title in ("tier", "层级")), None)


def quoted_columns(grid: Grid) -> list[int]:
    """The columns in which other people's figures stand with what they are, their hardware and their source."""
    if not any(titles <= set(grid.header) for titles in QUOTED):
        return []
    return [index for index, title in enumerate(grid.header) if title in {"published", "公开内容"}.union(*QUOTED)]


def compare(grid: Grid, record: Record, columns: dict[int, str], tier_at: int, found: Audit) -> None:
    """A table of points: each row is one point, each cell the stored value in the same form, empty if not measured."""
    axes = {index: title for index, title in enumerate(grid.header) if title in stored.axes(record)}
    seen = []
    for cells in grid.rows:
        found.rows += 1
        row = next((row for row in record["rows"] if is_row(row, cells, axes)), None)
        seen.append(row)
        where = f"{stored.name(record)} " + ", ".join(f"{axis}={cells[index]}" for index, axis in axes.items())
        for index, metric in columns.items():
            stated, value = cells[index], row["metrics"].get(metric) if row else None
            found.numbers += bool(stated)
            if stated not in {cell(metric, value), cell(metric, value, "zh")}:
                found.wrong_numbers += bool(stated)
                stored_as = cell(metric, value) or "nothing"
                found.faults.append(f"{where}: {metric} says {stated or 'nothing'}, stored is {stored_as}")
        if cells[tier_at] not in labels(record, row):
            found.faults.append(f"{where}: tier says {cells[tier_at] or 'nothing'}, it is {stored.label(record)}")
    left = sum(row not in seen for row in record["rows"])
    if left:
        found.faults.append(f"{stored.name(record)}: {left} measured points are not in its table")


def labels(record: Record, row: Record | None = None) -> set[str]:
    """The badges a row may carry; a point measured before its experiment failed may keep the tier it ran on."""
    if row and row.get("blocked"):
        return {WORDS[lang]["blocked"] for lang in ("en", "zh")}
    forms = [record]
    if record["status"] in ("failed", "running"):
        forms.append({**record, "status": "passed"})
    return {stored.label(form, lang) for form in forms for lang in ("en", "zh")}


def is_row(row: Record, cells: list[str], axes: dict[int, str]) -> bool:
    return all(cells[index] == plain(stored.text(row["point"].get(axis, ""))) for index, axis in axes.items())


def trace(grid: Grid, records: Sequence[Record], by_name: dict[str, Record], found: Audit) -> None:
    """Any other table: each number is held by these records, or by the one that the row names; so is a row's tier.

    What other people published is no record's: such a figure must name its hardware and its source.
    """
    tier_at, quoted = tier_column(grid), quoted_columns(grid)
    for cells in grid.rows:
        found.rows += 1
        own = subject(" ".join(cells), by_name)
        held_by = [own] if own else records
        known, held = tracing.known_texts(held_by), tracing.written(held_by)
        lacking = [grid.header[index] for index in quoted if not cells[index]]
        found.faults += [f"{grid.section}: a published figure lacks “{title}”" for title in lacking]
        for content in (content for index, content in enumerate(cells) if index not in quoted):
            for one in tracing.numbers(content, known):
                found.numbers += 1
                if one.written.replace(",", "") not in held:
                    found.wrong_numbers += 1
                    found.faults.append(f"{grid.section or 'a table'}: {one.written} in “{content}” is in no record")
        if own and tier_at is not None:
            found.listed.add(stored.name(own))
            if cells[tier_at] not in labels(own):
                found.faults.append(f"{stored.name(own)}: tier says {cells[tier_at]}, it is {stored.label(own)}")
