"""A kind that measures nothing: it tries out a plan, a sweep or the runner itself without a system under test."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tasks import api


class Params(api.Params):
    seconds: float = 0.0
    fail: str = ""  # fail with this message after the points
    memory_mb: int = 0


class Point(api.Params):
    n: int = 0
    label: str = ""


METRICS: Mapping[str, str] = {"elapsed_s": "seconds spent on the point", "value": "the point's own number, `n`"}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="rehearsal")]


def run(params: Params, ctx: api.Context) -> None:
    ballast = b"x" * (params.memory_mb * 2**20)
    for point in ctx.points:
        began = time.monotonic()
        time.sleep(params.seconds)
        ctx.record(point, {"elapsed_s": time.monotonic() - began, "value": point.n})
    del ballast
    if params.fail:
        raise api.UserError(params.fail)
