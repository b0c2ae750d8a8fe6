"""Proves tensor_parallel_demo.py by running it on two real ranks, with weights and inputs that it has not seen.

Tensor parallel, overlapped and sequence parallel outputs equal one process; each rank holds its part of the weights
only; the kernel's count of the bytes that a rank sent equals the formula.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.api import Verdict
from tasks.distributed import block, formula, ranks
from tasks.distributed.ranks import Seen, Step

HIDDEN, HEADS, LAYERS, BATCH, TOKENS = 128, 8, 2, 2, 64
MODES: tuple[ranks.Mode, ...] = ("tensor", "overlap", "sequence")
OVERHEAD_BYTES = 16384  # gloo's headers for a pass; an all-reduce of one layer is four times as much
SPARE = 1.1  # norms and the added biases are on every rank


class Params(api.Params):
    ways: int = Field(default=2, ge=2, le=4)


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="gloo", environment="training", memory_gb=2, binaries=("setpriv",))


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return Verdict(False, f"{file.name} is missing or empty")
    seed = time.time_ns() % 2**31
    steps = [Step(mode, BATCH, TOKENS, HIDDEN, HEADS, LAYERS, 1, seed) for mode in MODES]
    worst = 0.0
    try:
        for step, seen in zip(steps, ranks.measure(file, params.ways, "gloo", steps, work.scratch), strict=True):
            if fault := wrong(step, seen, params.ways):
                return Verdict(False, f"{step.mode}: {fault}", {"seed": seed})
            worst = max(worst, *(one.difference for one in seen))
    except api.UserError as error:
        return Verdict(False, str(error), {"seed": seed})
    return Verdict(
        True,
        f"{params.ways} ranks equal one process within {ranks.TOLERANCE:g}, also overlapped and sequence parallel;"
        " the bytes sent equal the formula",
        {"largest difference": worst, "seed": seed},
    )


def wrong(step: Step, seen: Sequence[Seen], ways: int) -> str:
    """What is wrong with one mode; empty when nothing is."""
    try:
        ranks.equal(seen, step.mode)
    except api.UserError as error:
        return error.what
    whole = sum(t.nbytes for one in block.weights(step.hidden, step.layers, step.seed) for t in one.values())
    if (most := max(one.weight_bytes for one in seen)) > SPARE * whole / ways:
        return f"a rank holds {most:,} bytes of weights, more than its part of {whole:,} among {ways}"
    sizes = (step.batch, step.tokens, step.hidden, step.layers, ways)
    must = (
        formula.sequence_parallel_bytes(*sizes, "gloo")
        if step.mode == "sequence"
        else formula.tensor_parallel_bytes(*sizes)
    )
    for number, one in enumerate(seen):
        if not must <= one.wire_bytes <= must + OVERHEAD_BYTES:
            return f"rank {number} sent {one.wire_bytes:,} bytes; the formula says {must:,.0f}"
    return ""
