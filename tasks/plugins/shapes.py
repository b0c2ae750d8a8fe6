"""The plugin under dynamic shapes: one network per rank with every axis dynamic, fed with shapes it must follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tasks import api
from tasks.plugins import contract

OK, REFUSED_BUILD, FAILED_RUN, WRONG = 0, 1, 2, 3


class Params(contract.Params):
    op: contract.Op = "mish"


class Point(api.Params):
    shape: str = "1x16"


METRICS: Mapping[str, str] = {
    "shape_ok_bool": "1 when each answer has its input's shape, smaller and larger shapes in between included",
    "max_abs_error": "largest difference from float64; 0 without an element, nan where nothing can be compared",
    "error_class": "0 none, 1 refused when built, 2 refused or failed when run, 3 a wrong shape or value",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return contract.needs(params)


def run(params: Params, ctx: api.Context) -> None:
    backend = contract.start(params, ctx)
    for point in ctx.points:
        sizes = [int(size) for size in point.shape.split("x")]
        network = contract.Network(params.op, "plugin", (-1,) * len(sizes))
        ctx.record(point, *tried(backend, network, visits(sizes), ctx.seed))


def visits(sizes: Sequence[int]) -> list[list[int]]:
    """The point's shape between other ones of its rank: what was allocated for one must not leak into the next."""
    larger, smaller = [size + 3 for size in sizes], [1] * len(sizes)
    return [list(sizes), larger, list(sizes), smaller, list(sizes)]


def tried(
    backend: contract.Backend, network: contract.Network, shapes: Sequence[Sequence[int]], seed: int
) -> tuple[dict[str, float], None, str]:
    """Metrics, no spread, note. An error of the system is a result here, with the stage at which it came."""
    worst, right, class_, note = 0.0, True, OK, ""
    stage = REFUSED_BUILD
    try:
        session = backend.session(network)
        stage = FAILED_RUN
        for shape in shapes:
            given = contract.frames(shape, 1, seed)[0]
            answer = session.infer(given)
            right = right and answer.shape == given.shape
            worst = max(worst, contract.error(network.op, given, answer))
    except (api.UserError, RuntimeError) as error:
        right, class_, note = False, stage, str(error).strip().splitlines()[-1]
        worst = math.nan
    if class_ == OK and not (right and worst <= contract.TOLERANCE):
        class_ = WRONG
        worst = worst if math.isfinite(worst) else math.nan
    seen = "visited " + ", ".join("x".join(map(str, shape)) for shape in shapes)
    return {"shape_ok_bool": float(right), "max_abs_error": worst, "error_class": class_}, None, note or seen
