"""The learner's notes on frameworks, read: a table of their components, and answers to questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.api import UserError
from tasks.documents import audit
from tasks.documents.stored import Record

ARCHITECTURE = "architecture"


@dataclass(frozen=True)
class Notes:
    """`architectures` maps a framework to its components, in the table's order; `answers` a question to its answer."""

    text: str
    architectures: Mapping[str, Sequence[str]]
    answers: Mapping[str, str]


def measured(records: Sequence[Record], compared: Record) -> list[Record]:
    """What the document tells of: the experiments of the comparison's day, without the document's own."""
    return [r for r in records if r["day"] == compared["day"] and "notes" not in (r["stanza"].get("params") or {})]


def read(file: Path) -> Notes:
    """UserError when there is no file or no table of components in it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the notes cannot be read: {error}", where=file.name) from error
    notes = parse(text)
    if not notes.architectures:
        raise UserError(
            "there is no table of components under a heading “Architecture”", where=file.name,
            remedy="a table: one row for each part, one column for each framework",
        )  # fmt: skip
    return notes


def parse(text: str) -> Notes:
    architectures: dict[str, list[str]] = {}
    for grid in audit.grids(text):
        if grid.section.lower().startswith(ARCHITECTURE):
            for column, framework in enumerate(grid.header[1:], start=1):
                cells = [row[column] for row in grid.rows if column < len(row)]
                architectures[framework] = [cell for cell in cells if cell not in ("", "–", "-")]
    return Notes(text.strip(), architectures, answered(text))


def answered(text: str) -> dict[str, str]:
    """Headings that end with a question mark, each with the text up to the next heading."""
    parts = re.split(r"^#{2,4} +(.+)$", text, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {title.strip(): body.strip() for title, body in pairs if title.strip().endswith(("?", "？"))}
