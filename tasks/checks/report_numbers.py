"""A day's report: each number in its tables is a stored result, each row shows its tier, the unmeasured is empty."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.documents import audit, stored
from tasks.documents.stored import Record

SHOWN = 5


class Params(api.Params):
    """`mentions` are words the report must have, such as what a model's weights are."""

    mentions: list[str] = Field(default_factory=list)


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """Reads the tables back and compares them, cell by cell, with the records of the day that the file's name tells."""
    text = read(file)
    numbered = re.search(r"day(\d+)", file.name)
    day = f"day{int(numbered[1]):02d}" if numbered else work.day.name
    records = [record for record in stored.load(work.records) if record["day"] == day]
    return judge(text, records, params.mentions)


def judge(text: str, records: list[Record], mentions: list[str]) -> api.Verdict:
    """The verdict on a report's text, given every record that it reports on."""
    if not records:
        return api.Verdict(False, "there is no record to compare the report with: run the day first")
    found = audit.audit(text, records)
    own = [record for record in records if not record["variant"]]
    faults = found.faults + [
        f"{stored.name(record)} has no table of its points" for record in own if stored.name(record) not in found.shown
    ]
    faults += [f"the report does not say “{word}”" for word in mentions if word.lower() not in text.lower()]
    evidence = {"tables": len(found.shown), "rows": found.rows, "numbers": found.numbers, "faults": faults[:20]}
    if faults:
        return api.Verdict(False, told(faults), evidence)
    return api.Verdict(True, f"{found.numbers} numbers in {found.rows} rows are stored results", evidence)


def read(file: Path) -> str:
    """The file's text; empty when there is none or it is not text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def told(faults: list[str]) -> str:
    """The first faults, and how many more there are."""
    more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more
