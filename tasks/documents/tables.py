"""Records as tables. A table is plain data; `markdown` is its only rendering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.documents import stored
from tasks.documents.figures import cell, heading, number, split_unit
from tasks.documents.stored import Record
from tasks.documents.words import WORDS

SPREAD = ("n", "p50", "p95", "p99", "stdev")


@dataclass(frozen=True)
class Table:
    """`numeric` says of each column whether it is set flush right."""

    header: Sequence[str]
    numeric: Sequence[bool]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """GitHub-flavoured Markdown, without a trailing newline."""
        rule = ["---:" if right else "---" for right in self.numeric]
        lines = [self.header, rule, *([clean(cell) for cell in row] for row in self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def clean(content: str) -> str:
    """Text that cannot break out of its cell."""
    return content.replace("|", "\\|").replace("\n", " ").strip()


def badge(words: str) -> str:
    """A tier or a verdict: inline code in Markdown, a coloured badge in HTML."""
    return f"`{words}`"


def results(record: Record, lang: str = "en") -> Table:
    """Points × metrics, one row for each planned point; a point that was not measured stays empty."""
    names, axes = stored.metrics(record), stored.axes(record)
    planned = stored.points(record)
    extra = [row["point"] for row in record["rows"] if row["point"] not in planned]
    rows = []
    for point in planned + extra:
        row = stored.row_of(record, point)
        measured = row["metrics"] if row else {}
        where = [stored.text(point.get(axis, "")) for axis in axes] or [WORDS[lang]["single"]]
        values = [cell(metric, measured.get(metric), lang) for metric in names]
        rows.append([*where, *values, badge(tier(record, row, lang))])
    first = axes or [WORDS[lang]["point"]]
    header = [*first, *(heading(metric, lang) for metric in names), WORDS[lang]["tier"]]
    return Table(header, [False] * len(first) + [True] * len(names) + [False], rows)


def tier(record: Record, row: dict[str, Any] | None, lang: str) -> str:
    """The badge of one row: points that a failed experiment did measure keep the tier they were measured on."""
    if row and row.get("blocked"):
        return str(WORDS[lang]["blocked"])
    if row and record["status"] in ("failed", "running"):
        return stored.label({**record, "status": "passed"}, lang)
    return stored.label(record, lang)


def spreads(record: Record, lang: str = "en") -> Table | None:
    """How the repeated measurements scattered; None when nothing was repeated."""
    words, rows = WORDS[lang], []
    for row in record["rows"]:
        for metric, spread in sorted(row["spread"].items()):
            where = ", ".join(f"{axis}={stored.text(value)}" for axis, value in row["point"].items())
            rows.append([where or words["single"], heading(metric, lang), *(number(spread[name]) for name in SPREAD)])
    header = [words["point"], words["metric"], *SPREAD]
    return Table(header, [False, False] + [True] * len(SPREAD), rows) if rows else None


def claims(record: Record, lang: str = "en") -> Table | None:
    """What was expected and what came out; None when the experiment makes no claim."""
    words = WORDS[lang]
    rows = [
        [
            stored.said(claim["text"], lang),
            expected(claim),
            "" if claim.get("measured") is None else number(claim["measured"]),
            badge(words.get(claim["verdict"], claim["verdict"])),
        ]
        for claim in record["claims"]
    ]
    header = [words["claim"], words["expected"], words["measured"], words["verdict"]]
    return Table(header, [False, True, True, False], rows) if rows else None


def expected(claim: Record) -> str:
    """`≥ 1.5 ×` for a ratio of two points, `≥ 1.5 ms` for one."""
    sign = {">=": "≥", "<=": "≤"}.get(claim["op"], claim["op"])
    unit = "×" if claim.get("over") else split_unit(claim["metric"])[1]
    return f"{sign} {stored.text(claim['value'])} {unit}".rstrip()


def summary(records: Sequence[Record], titles: dict[str, str], lang: str = "en") -> Table:
    """One line for each experiment: what it is, its tier, and its first metric at every point."""
    words = WORDS[lang]
    header = [words["day"], words["experiment"], words["result"], words["tier"]]
    rows = [
        [
            record["day"],
            f"{titles.get(stored.name(record), '')} `{record['id']}`",
            main_result(record, lang),
            badge(stored.label(record, lang)),
        ]
        for record in records
    ]
    return Table(header, [False] * 4, rows)


def main_result(record: Record, lang: str = "en", metric: str = "") -> str:
    """A metric (the first if none is named) and its values: `replicas: 100 → 1 · 250 → 2`."""
    metric = metric or next(iter(stored.metrics(record)), "")
    found = values(record, metric, lang)
    return f"{heading(metric, lang)}{WORDS[lang]['colon']}{found}" if found else ""


def values(record: Record, metric: str, lang: str = "en", most: int = 6) -> str:
    """A metric at up to `most` points: `100 → 1 · 250 → 2`; empty when it was measured nowhere."""
    shown = []
    for point in stored.points(record):
        row = stored.row_of(record, point)
        if row and metric in row["metrics"]:
            where = "/".join(stored.text(value) for value in point.values())
            shown.append(f"{where} → {cell(metric, row['metrics'][metric], lang)}".removeprefix(" → "))
    return " · ".join(shown[:most]) + (" …" if len(shown) > most else "")
