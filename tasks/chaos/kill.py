"""A drill on the monitoring itself: Prometheus, the dashboard or a replica is killed; how long until it is made good?

Without a cluster these are processes with a supervisor that restarts at once; Prometheus is real, a small dashboard
is in Grafana's place and a replica process behind Envoy in a Pod's. On a cluster the Pods of `manifest` are deleted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from pydantic import Field

from tasks import api
from tasks.chaos import monitored_cluster, process_plant, scrapes
from tasks.services import open_load, timing
from tasks.services.open_load import Target
from tasks.services.prometheus import Prometheus

CLUSTER, STAND_IN = "Kubernetes", "supervised processes"
LOOK_S = 0.02


class Params(api.Params):
    replicas: int = Field(default=2, ge=1)
    qps: float = Field(default=60.0, gt=0)  # offered to the replicas meanwhile
    layers: int = Field(default=100, ge=1)  # of the stand-in's model: the processor time of a request
    retries: int = Field(default=2, ge=0)  # of Envoy, for a request whose replica died under it; Istio's default
    repeats: int = Field(default=3, ge=1)
    settle_s: float = Field(default=1.5, gt=0)  # of quiet before and after each fault
    scrape_interval_s: float = Field(default=0.5, gt=0)
    limit_s: float = Field(default=60.0, gt=0)  # what is not back by then fails the drill
    rules: str = "alerts.yaml"  # the alert rules that Prometheus evaluates
    manifest: str = "monitoring_drill.yaml"  # on a cluster: what is deployed


class Point(api.Params):
    target: Literal["prometheus", "grafana", "pod"] = "prometheus"


METRICS = {
    "mttr_s": "median time from the kill until another did the work again: scraped, showed a panel, took requests",
    "scrape_gap_s": "median over the faults of the longest time in which a replica was not scraped",
    "error_rate_pct": "requests to the model without a good answer, over the whole drill",
    "rules_evaluated": "alert rules that Prometheus evaluates after the drill",
}


class Plant(Protocol):
    target: Target

    def kill(self, what: str, choose: random.Random) -> None:
        """End one of these without warning."""

    def restored(self, what: str, since: float) -> bool:
        """Whether what was killed does its work again, with something newer than `since` (unix s) to show for it."""

    def prometheus(self) -> Prometheus:
        """The Prometheus that runs now."""


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(backend=CLUSTER, environment="traffic", binaries=("kubectl",), cluster=True),
        api.Needs(
            backend=STAND_IN, stand_in_for=CLUSTER, environment="traffic", binaries=("prometheus", "setpriv"),
            memory_gb=1,
        ),
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    with started(params, ctx) as plant:
        for point in ctx.points:
            drill(params, point, plant, ctx)


def started(params: Params, ctx: api.Context) -> AbstractContextManager[Plant]:
    rules = ctx.day / params.rules
    if ctx.backend == CLUSTER:
        return monitored_cluster.plant(ctx.day / params.manifest, rules, params.replicas, ctx.scratch)
    return process_plant.plant(
        params.replicas, params.layers, params.retries, rules, params.scrape_interval_s, ctx.scratch
    )


def drill(params: Params, point: Point, plant: Plant, ctx: api.Context) -> None:
    choose, out = random.Random(ctx.seed), ctx.scratch / "answers.npy"
    longest = params.repeats * (params.limit_s + 3 * params.settle_s)
    repairs, gaps = [], []
    with open_load.load(plant.target, [(longest, params.qps)], out, ctx.seed) as stop:
        for number in range(params.repeats):
            time.sleep(params.settle_s)
            killed = time.time()
            plant.kill(point.target, choose)
            repairs.append(repaired(plant, point.target, killed, time.time(), params))
            time.sleep(params.settle_s)
            gaps.append(scrapes.longest_gap_s(plant.prometheus(), killed - params.settle_s / 2, time.time()))
            ctx.say(f"{point.target}, kill {number + 1} of {params.repeats}: made good in {repairs[-1]:.2f} s")
        stop()
    answers = open_load.answers(out)
    repair, gap = timing.spread(repairs), timing.spread(gaps)
    ctx.record(
        point,
        {
            "mttr_s": repair.p50, "scrape_gap_s": gap.p50, "error_rate_pct": answers.error_pct(),
            "rules_evaluated": scrapes.rules_evaluated(plant.prometheus()),
        },
        {"mttr_s": repair, "scrape_gap_s": gap},
        f"{params.repeats} kills; {len(answers.status)} requests, {int((answers.status != 200).sum())} failed",
    )  # fmt: skip


def repaired(plant: Plant, what: str, killed: float, gone: float, params: Params) -> float:
    """Seconds from `killed` (unix s) until it is made good after it was `gone`. Raises UserError after `limit_s`."""
    while (waited := time.time() - killed) < params.limit_s:
        if plant.restored(what, gone):
            return time.time() - killed
        time.sleep(LOOK_S)
    raise api.UserError(f"{what} was not back {waited:.0f} s after it was killed")
