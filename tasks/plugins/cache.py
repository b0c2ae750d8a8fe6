"""The plugin's internal cache (a table of the activation, filled by the first frame): first and later frames.

At `frame: first` the network is compiled afresh again and again, and each time only a few frames follow; at
`frame: later` one session runs many frames. Both record both metrics.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.plugins import contract
from tasks.services import timing


class Params(contract.Params):
    op: contract.Op = "mish"
    shape: list[int] = Field(default=[8, 1024])
    sessions: int = 20  # compiled afresh, at `frame: first`
    few: int = 5  # later frames of each of them
    many: int = 1000  # later frames of each of the three sessions, at `frame: later`


class Point(api.Params):
    cache: Literal["off", "on"] = "off"
    frame: Literal["first", "later"] = "first"


METRICS: Mapping[str, str] = {
    "first_frame_us": "median time of a compiled network's first frame, microseconds",
    "later_frame_p50_us": "median time of its later frames, microseconds",
    "max_abs_error": "largest difference from the activation in float64, over all frames that were checked",
}
LONG_SESSIONS = 3


def needs(params: Params) -> Sequence[api.Needs]:
    return contract.needs(params)


def run(params: Params, ctx: api.Context) -> None:
    backend = contract.start(params, ctx)
    backend.session(network(params, cached=False)).infer(contract.frames(params.shape, 1, ctx.seed)[0])
    for point in ctx.points:
        afresh = point.frame == "first"
        sessions, later = (params.sessions, params.few) if afresh else (LONG_SESSIONS, params.many)
        first: list[float] = []
        rest: list[float] = []
        worst = 0.0
        for number in range(sessions):
            session = backend.session(network(params, cached=point.cache == "on"))
            inputs = contract.frames(params.shape, 1 + later, ctx.seed + number)
            times, answers = timed(session, inputs)
            worst = max(
                worst, *(error_of(params, *pair) for pair in ((inputs[0], answers[0]), (inputs[-1], answers[-1])))
            )
            first.append(times[0])
            rest += times[1:]
        spread = {"first_frame_us": timing.spread(first), "later_frame_p50_us": timing.spread(rest)}
        metrics = {name: one.p50 for name, one in spread.items()} | {"max_abs_error": worst}
        ctx.record(point, metrics, spread, f"{sessions} sessions")


def network(params: Params, *, cached: bool) -> contract.Network:
    return contract.Network(params.op, "plugin", tuple(params.shape), cached)


def error_of(params: Params, given: Any, answer: Any) -> float:
    return contract.checked(params.op, given, answer, f"plugin {params.op}")


def timed(session: contract.Session, inputs: Sequence[Any]) -> tuple[list[float], list[Any]]:
    """Microseconds and answer of each frame, in order and without a warm-up: the first is the first."""
    times, answers = [], []
    for one in inputs:
        began = time.perf_counter()
        answer = session.infer(one)
        times.append((time.perf_counter() - began) * 1e6)
        answers.append(answer)
    return times, answers
