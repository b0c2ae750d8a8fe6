"""Swish and Mish by our plugin and by the native operator: values first, then the latency of one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from tasks import api
from tasks.plugins import contract
from tasks.services import timing

FRAMES = 8


class Params(contract.Params):
    shape: list[int] = Field(default=[8, 1024])
    budget_s: float = 1.0


class Point(api.Params):
    op: contract.Op = "swish"
    impl: contract.Impl = "plugin"


METRICS: Mapping[str, str] = {
    "latency_p50_us": "median latency of one request, microseconds",
    "max_abs_error": "largest difference from the activation in float64, inputs within [-8, 8]",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return contract.needs(params)


def run(params: Params, ctx: api.Context) -> None:
    backend = contract.start(params, ctx)
    for point in ctx.points:
        session = backend.session(contract.Network(point.op, point.impl, tuple(params.shape)))
        inputs = contract.frames(params.shape, FRAMES, ctx.seed)
        worst = max(contract.checked(point.op, one, session.infer(one), f"{point.impl} {point.op}") for one in inputs)
        samples = timing.repeat(session.infer, [(one,) for one in inputs], params.budget_s)
        latency = timing.spread([1000 * one for one in samples])
        metrics = {"latency_p50_us": latency.p50, "max_abs_error": worst}
        ctx.record(point, metrics, {"latency_p50_us": latency}, backend.version)
