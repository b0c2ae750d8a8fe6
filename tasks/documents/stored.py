"""Records as documents see them: which there are, their points, their label, their name."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.api import read_rows
from tasks.documents.words import WORDS

Record = Mapping[str, Any]


def load(paths: Iterable[Path]) -> list[Record]:
    """The records of those files with their measured rows under `rows`, in the order of day and file name."""
    found = []
    for path in sorted(paths):
        record = json.loads(path.read_text(encoding="utf-8"))
        record["rows"] = read_rows(path.with_name("rows.jsonl"), record["spec"])
        record["folder"] = path.parent
        found.append(record)
    return sorted(found, key=lambda record: (record["day"], record["id"], record["variant"]))


def name(record: Record) -> str:
    """How a document cites a record: `day18/instances-1-2-4-throughput`, with `+variant` for an overridden run."""
    return f"{record['day']}/{record['id']}" + (f"+{record['variant']}" if record["variant"] else "")


def number_of(day: str) -> int:
    """`day08` → 8; 0 for a unit of another plan, which is no day of the ninety."""
    number = day.removeprefix("day")
    return int(number) if number.isdigit() else 0


def cited(record: Record) -> str:
    """The record's name with the first eight digits of its id, which change when it is measured again."""
    return f"{name(record)}#{record['uuid'].replace('-', '')[:8]}"


def gpu_name(gpu: str) -> str:
    """`NVIDIA H100 80GB HBM3, 79.6 GiB, sm_90` → `NVIDIA H100 80GB HBM3`."""
    return gpu.partition(",")[0]


def label(record: Record | None, lang: str = "en") -> str:
    """The tier as a badge: `native`, `stand-in for tensorrt`, or what kept the experiment from being measured."""
    words = WORDS[lang]
    if record is None:
        return str(words["pending"])
    if record["status"] != "passed":
        return str(words[record["status"]])
    if record["tier"] == "stand-in":
        return str(words["stand-in"].format(record["stand_in_for"]))
    return str(words["native"])


def axes(record: Record) -> list[str]:
    """The names of the matrix's axes, as the plan orders them."""
    return list(record["stanza"].get("matrix") or {})


def points(record: Record) -> list[dict[str, Any]]:
    """Every planned point in the matrix's order; a single empty point when there is no matrix."""
    matrix = record["stanza"].get("matrix") or {}
    return [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]


def row_of(record: Record, point: Mapping[str, Any]) -> dict[str, Any] | None:
    """The measured row of a point, or None."""
    return next((row for row in record["rows"] if row["point"] == dict(point)), None)


def metrics(record: Record) -> list[str]:
    """The metrics that the plan asks for, then what was measured besides."""
    asked = list(record["stanza"].get("metrics") or [])
    extra = {metric for row in record["rows"] for metric in row["metrics"]} - set(asked)
    return asked + sorted(extra)


def text(value: Any) -> str:
    """A point's coordinate as it is printed; a whole number looks the same whether a plan or a float field wrote it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def said(words: Any, lang: str) -> str:
    """A text that a plan gives in both languages, or one that has only one form."""
    if isinstance(words, Mapping):
        return str(words.get(lang) or words.get("en") or "")
    return str(words or "")
