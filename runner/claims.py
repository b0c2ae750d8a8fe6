"""Claims judged from measured rows: confirmed, refuted, or unknown while a point is missing. Light."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

OPS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def judge(claim: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The claim with what was measured and its verdict. With `over`, the ratio of the two values is compared."""
    top = _value(claim["metric"], claim["at"], rows)
    measured = top
    if claim["over"]:
        bottom = _value(claim["metric"], claim["over"], rows)
        measured = top / bottom if top is not None and bottom else None
    if measured is None:
        return {**claim, "measured": None, "verdict": "unknown"}
    held = OPS[claim["op"]](measured, claim["value"])
    return {**claim, "measured": measured, "verdict": "confirmed" if held else "refuted"}


def _value(metric: str, at: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The median over the points that match `at` (there is usually one)."""
    found = sorted(
        row["metrics"][metric]
        for row in rows
        if metric in row["metrics"] and all(row["point"].get(axis) == value for axis, value in at.items())
    )
    return found[len(found) // 2] if found else None
