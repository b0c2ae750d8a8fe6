"""A data set of one's own: JSON Lines that read without a fault, enough rows, more than one answer to give."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.training import rows

SHOWN = 5
MOST_PCT = 50  # of the rows may have the same answer


class Params(api.Params):
    """At least `least` rows."""

    least: int = Field(default=200, ge=1)


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="rows", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """Every line is a row, no question stands there twice, and no one answer does for most of them."""
    found, faults = rows.examined(file.read_bytes() if file.is_file() else b"")
    if faults:
        told = "; ".join(f"line {line}: {fault}" for line, fault in faults[:SHOWN])
        return api.Verdict(False, f"{len(faults)} broken rows: {told}", {"faults": [list(f) for f in faults[:20]]})
    if len(found) < params.least:
        return api.Verdict(False, f"{len(found)} rows, and {params.least} are asked for")
    [(answer, times)] = Counter(row.answer for row in found).most_common(1)
    if 100 * times > MOST_PCT * len(found):
        return api.Verdict(False, f"{times} of {len(found)} rows have the answer {answer!r}: there is little to learn")
    answers = len({row.answer for row in found})
    return api.Verdict(True, f"{len(found)} rows, {answers} different answers", {"rows": len(found)})
