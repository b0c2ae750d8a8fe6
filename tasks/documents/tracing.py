"""Looks every number of a text up in the records. Knows only how numbers are written, not how the texts are made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.documents import measured_model
from tasks.documents.figures import number
from tasks.documents.stored import Record, gpu_name

NUMBER = re.compile(r"(?<![A-Za-z0-9_.,])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?![0-9])")
CITATION = re.compile(r"(?:day\d+|[a-z]+(?:-[a-z0-9]+)+)/[\w.-]+(?:\+[0-9a-f]{8})?(?:#[\w-]+)?")
TIMES = re.compile(r"\s*[×x]\s")
MACHINE = ("cores", "memory_gb")


@dataclass(frozen=True)
class Found:
    """A number in a text: as written, where it starts, and whether it says "so many times"."""

    written: str
    at: int
    ratio: bool = False


def numbers(text: str, known: Iterable[str] = ()) -> list[Found]:
    """The numbers of a text that state a quantity.

    `known` are texts that stand in a record word for word (a CPU's name, a claim); digits in them, in citations of
    records and inside names (`p99`, `INT8`) state nothing.
    """
    text = CITATION.sub(lambda match: " " * len(match.group()), text)
    for words in sorted({part for part in known if part}, key=len, reverse=True):
        text = text.replace(words, " " * len(words))
    return [
        Found(match.group().replace("−", "-"), match.start(), bool(TIMES.match(text + " ", match.end())))
        for match in NUMBER.finditer(text)
    ]


def values(record: Record) -> Iterator[float]:
    """Every measured value of a record."""
    for row in record["rows"]:
        yield from row["metrics"].values()
        for spread in row["spread"].values():
            yield from spread.values()


def facts(record: Record) -> Iterator[float]:
    """Every number that a record holds beside its measurements: points, parameters, claims, machine, model."""
    for part in ("params", "matrix"):
        yield from scalars(record["stanza"].get(part) or {})
    for row in record["rows"]:
        yield from scalars(row["point"])
    for claim in record["claims"]:
        yield from scalars({key: claim.get(key) for key in ("value", "measured", "at", "over")})
    yield from (record["machine"][key] for key in MACHINE if key in record["machine"])
    for model in measured_model.of(record):
        yield from model.size.values()
    yield from record["points"].values()
    yield record["seconds"]


def scalars(tree: Any) -> Iterator[float]:
    """The numbers among a tree's leaves; a text leaf that is a number counts."""
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, list):
        for leaf in tree:
            yield from scalars(leaf)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield tree
    elif isinstance(tree, str):
        yield from (float(found.written.replace(",", "")) for found in numbers(tree))


def known_texts(records: Iterable[Record]) -> set[str]:
    """Texts of the records that documents quote word for word."""
    texts: set[str] = set()
    for record in records:
        texts |= {record["id"], str(record["machine"].get("cpu", "")), str(record["machine"].get("os", ""))}
        texts |= {gpu_name(gpu) for gpu in record["machine"].get("gpus", ())}
        texts |= {name for model in measured_model.of(record) for name in model.names}
        texts |= {f"{package} {version}" for package, version in record["versions"].items()}
        texts |= set(record["stanza"].get("metrics") or [])
        for said in (record["stanza"].get("title"), *(claim["text"] for claim in record["claims"])):
            texts |= set(said.values()) if isinstance(said, Mapping) else {str(said or "")}
    return texts


def written(records: Iterable[Record]) -> set[str]:
    """Every number of the records, as a document would write it but for the thousands' commas."""
    held = list(records)
    forms = {number(value) for record in held for value in (*values(record), *facts(record))}
    as_planned = {str(value) for record in held for value in facts(record)}
    return {form.replace(",", "") for form in forms | as_planned}
