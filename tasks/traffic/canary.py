"""A gray release: more and more of the live traffic goes to version 2 while the load goes on.

Envoy's weighted route is switched under load, through its route file. Version 2 is another network than version 1
(deeper, so slower and with other answers): what the share does to the latency is therefore seen in the figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.services import envoy, open_load, upstream
from tasks.services.envoy import Envoy
from tasks.services.envoy_config import Route

ENVOY, OLD, NEW = "Envoy", "v1", "v2"
STEPS = (0, 10, 50, 100)
LOOK_S = 0.1


class Params(api.Params):
    layers_v1: int = Field(default=100, ge=1)  # of the served networks: the processor time of a request
    layers_v2: int = Field(default=400, ge=1)
    qps: float = Field(default=80.0, gt=0)
    before_s: float = Field(default=1.5, gt=0)  # of load on the step before
    seconds: float = Field(default=8.0, gt=0)  # of load on the step


class Point(api.Params):
    v2_weight_pct: Literal[10, 50, 100] = 10


METRICS = {
    "observed_share_pct": "requests that were given to version 2 after the switch, by Envoy's counters",
    "latency_p50_ms": "median latency of answered requests after the switch, from the moment they were due",
    "latency_p99_ms": "99th percentile of the same",
    "error_rate_pct": "requests without a good answer, those around the switch included",
    "answers_checked": "answers compared under load with the network of the version that gave them",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend=ENVOY, environment="traffic", binaries=("setpriv",))]


def run(params: Params, ctx: api.Context) -> None:
    if params.layers_v1 == params.layers_v2:
        raise api.UserError("layers_v1 and layers_v2 are the same: a release must differ from what it replaces")
    with ExitStack() as stack:
        old = stack.enter_context(upstream.serve(OLD, params.layers_v1, ctx.out / "v1.log"))
        new = stack.enter_context(upstream.serve(NEW, params.layers_v2, ctx.out / "v2.log"))
        clusters = {OLD: [old.port], NEW: [new.port]}
        proxy = stack.enter_context(envoy.serve(clusters, weights(0), ctx.scratch / "envoy"))
        for point in ctx.points:
            step(params, point, proxy, ctx)


def weights(share_pct: int) -> Route:
    return Route({OLD: 100 - share_pct, NEW: share_pct})


def step(params: Params, point: Point, proxy: Envoy, ctx: api.Context) -> None:
    """Load on the step before, the switch, load on this step."""
    earlier = next(before for before, after in pairwise(STEPS) if after == point.v2_weight_pct)
    proxy.route(weights(earlier))
    out, whole = ctx.scratch / "answers.npy", params.before_s + params.seconds
    with open_load.load(upstream.target(proxy.address), [(whole, params.qps)], out, ctx.seed):
        began = time.monotonic()
        time.sleep(params.before_s)
        proxy.route(weights(point.v2_weight_pct))
        switched = time.monotonic() - began
        before = given(proxy)
        checked = watch(proxy.address, params, began + whole)
    served = [now - then for now, then in zip(given(proxy), before, strict=True)]
    answers = open_load.answers(out)
    after = answers.between(switched, whole)
    latency = after.latency_ms()
    ctx.record(
        point,
        {
            "observed_share_pct": 100 * served[1] / sum(served), "latency_p50_ms": latency.p50,
            "latency_p99_ms": latency.p99, "error_rate_pct": answers.error_pct(),
            "answers_checked": checked.total(),
        },
        {"latency_p50_ms": latency, "latency_p99_ms": latency},
        f"switched from {earlier}% under load; {len(after.status)} requests since; "
        f"checked answers: {checked[OLD]} of v1, {checked[NEW]} of v2",
    )  # fmt: skip


def given(proxy: Envoy) -> list[float]:
    """Requests that each version was given so far."""
    return [
        proxy.stats(f"cluster.{name}.upstream_rq_total")[f"cluster.{name}.upstream_rq_total"] for name in (OLD, NEW)
    ]


def watch(address: str, params: Params, until: float) -> Counter[str]:
    """Ask while the load lasts, and check every answer against the version that gave it; how many of each."""
    layers, checked = {OLD: params.layers_v1, NEW: params.layers_v2}, Counter[str]()
    while time.monotonic() < until:
        checked[upstream.verify(address, layers)] += 1
        time.sleep(LOOK_S)
    return checked
