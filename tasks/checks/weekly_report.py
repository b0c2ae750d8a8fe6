"""The week's report: tables and curves over its days, every number stored, every experiment listed with its tier."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import ParseError

from tasks import api
from tasks.checks.report_numbers import read, told
from tasks.documents import audit, curve_reading, curves, stored
from tasks.documents.stored import Record

PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")


class Params(api.Params):
    """How many experiments the days `first` to `last` have; each must be listed and, where it has a shape, drawn.

    So must the stored experiments of earlier weeks, when the report goes on from them. The report of another plan
    has no numbered days: there every stored experiment of the plan is meant.
    """

    experiments: int
    first: int = 0
    last: int = 0


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """Compares tables with the records and reads the pictures' points back."""
    text = read(file)
    records = [record for record in stored.load(work.records) if not record["variant"]]
    earlier, chosen = asked(params, records)
    found = audit.audit(text, records)
    listed = [record for record in chosen if stored.name(record) in found.listed]
    drawn, figure_faults = figures(text, file.parent, chosen)
    faults, wanted = figure_faults + found.faults, params.experiments + len(earlier)
    if len(listed) != wanted:
        lost = sorted(stored.name(record) for record in chosen if stored.name(record) not in found.listed)
        faults.insert(0, f"{len(listed)} of {wanted} experiments are listed with their tier {' '.join(lost)}".strip())
    evidence = {"experiments": len(listed), "numbers": found.numbers, "figures": drawn, "faults": faults[:20]}
    if faults:
        return api.Verdict(False, told(faults), evidence)
    return api.Verdict(
        True, f"{len(listed)} experiments with tier, {found.numbers} stored numbers, {drawn} figures", evidence
    )


def asked(params: Params, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """(the records of earlier weeks, all that the report must show)."""
    if not params.last:
        return [], list(records)
    days, week = range(params.first, params.last + 1), f"week{(params.last - 1) // 7 + 1:02d}"
    earlier = [record for record in records if record["week"] < week]
    return earlier, earlier + [record for record in records if stored.number_of(record["day"]) in days]


def figures(text: str, folder: Path, records: Sequence[Record]) -> tuple[int, list[str]]:
    """How many figures hold only stored points, and what is wrong with the others."""
    links, drawn, faults = PICTURE.findall(text), 0, []
    for record in records:
        if not curves.plotted(record):
            continue
        link = next((link for link in links if link.endswith(f"{record['day']}-{record['id']}.svg")), None)
        if link is None or not (folder / link).is_file():
            faults.append(f"{stored.name(record)} has no curve")
            continue
        try:
            hits, marks = curve_reading.traced(
                (folder / link).read_text(encoding="utf-8"), record, curves.abscissa(record)
            )
        except (ParseError, UnicodeDecodeError, IndexError, ValueError):
            hits, marks = 0, 0
        if not marks or hits < marks:
            faults.append(f"{link}: only {hits} of {marks} plotted points are stored results")
        else:
            drawn += 1
    return drawn, faults
