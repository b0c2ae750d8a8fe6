"""Reads résumé bullets back, whoever wrote them, and looks every number up in the records that the bullet cites."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from tasks.documents import measured_model, stored, tracing
from tasks.documents.figures import number
from tasks.documents.stored import Record

BULLET = re.compile(r"^\s*[-*•]\s+(.+(?:\n[ \t]+\S.*)*)", re.MULTILINE)
STAND_IN = re.compile(r"stand(s|ing)?[ -]in|替代", re.IGNORECASE)


def bullets(text: str) -> list[str]:
    """The bullets of a text; an indented line goes on with the bullet above it."""
    return [" ".join(found.split()) for found in BULLET.findall(text)]


def cited(bullet: str, records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """(the records that a bullet cites, the citations that no record answers)."""
    by_name = {stored.cited(record): record for record in records}
    by_name |= {stored.name(record): record for record in records}
    names = tracing.CITATION.findall(bullet)
    return [by_name[name] for name in names if name in by_name], [name for name in names if name not in by_name]


def faults(bullet: str, records: Sequence[Record]) -> list[str]:
    """What keeps a bullet from being true: no record, one that did not pass, a foreign number, a hidden stand-in or
    model."""
    found, unknown = cited(bullet, records)
    wrong = [f"{name} is no stored record (or has been measured again since)" for name in unknown]
    if not found and not unknown:
        return ["it names no record such as day18/instances-1-2-4-throughput"]
    for record in found:
        if record["status"] != "passed":
            wrong.append(f"{stored.name(record)} is {record['status']}, not passed")
        elif record["tier"] == "stand-in" and not names_stand_in(bullet, record):
            wrong.append(f"{stored.name(record)} stands in for {record['stand_in_for']}, and it does not say so")
        if not all(measured_model.named(model, bullet) for model in measured_model.of(record)):
            wrong.append(f"{stored.name(record)} was measured on {measured_model.words(record)}; it does not say so")
    return wrong + [f"{number} is in none of its records" for number in untraced(bullet, found)]


def names_stand_in(bullet: str, record: Record) -> bool:
    return bool(STAND_IN.search(bullet)) and record["stand_in_for"].lower() in bullet.lower()


def untraced(bullet: str, records: Sequence[Record]) -> list[str]:
    """The bullet's numbers that are neither stored in its records nor follow from two stored numbers it shows."""
    said = tracing.numbers(bullet, tracing.known_texts(records))
    stated = [float(value) for record in records for value in (*tracing.values(record), *tracing.facts(record))]
    direct = {one.at for one in said if not one.ratio and any(rounds_to(value, one.written, 3) for value in stated)}
    shown = {one.written for one in said if one.at in direct}
    derived = list(comparisons(records, shown))
    return [
        one.written
        for one in said
        if one.at not in direct and not any(rounds_to(value, one.written, 2) for value in derived)
    ]


def comparisons(records: Sequence[Record], shown: set[str]) -> Iterator[float]:
    """Ratios and changes in percent between two values of one metric that the bullet itself shows."""
    for record in records:
        for metric in stored.metrics(record):
            values = [row["metrics"][metric] for row in record["rows"] if metric in row["metrics"]]
            printed = [value for value in values if any(rounds_to(value, text, 3) for text in shown)]
            for before, after in itertools.permutations(printed, 2):
                if before and after:
                    yield from (after / before, 100 * abs(after - before) / abs(before))


def rounds_to(value: float, written: str, digits: int) -> bool:
    """Whether a text is the stored value as documents print it, or rounded to no fewer than `digits` digits."""
    if number(value) == written:
        return True
    plain = written.replace(",", "").lstrip("-")
    if "e" in plain or len(plain.replace(".", "").lstrip("0")) < digits:
        return False
    return f"{value:.{len(plain.partition('.')[2])}f}" == written.replace(",", "")
