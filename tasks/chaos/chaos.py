"""A fault drill: one of several replicas is killed under load, again and again; what do clients notice?

The stand-in for a deleted Pod is a replica process that gets SIGKILL: behind Ray Serve's HAProxy, whose controller
starts another, or behind Envoy with a supervisor of ours. On a cluster the Pods of the Deployment in `manifest` are
deleted at random. The fault `none` is the same drill without a kill: what the load alone does.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.chaos import envoy_fleet, fleets
from tasks.chaos.fleets import Fleet
from tasks.services import open_load

CLUSTER = "Kubernetes"
STAND_INS = {"ray": "Ray Serve", "envoy": "Envoy"}
ENVIRONMENTS = {"ray": "ray", "envoy": "traffic"}
LOOK_S = 0.02


class Params(api.Params):
    replicas: int = Field(default=2, ge=1)
    qps: float = Field(default=60.0, gt=0)  # offered to all of them together
    settle_s: float = Field(default=1.5, ge=0)  # of quiet before each fault
    limit_s: float = Field(default=30.0, gt=0)  # a replica that is not back by then fails the drill
    layers: int = Field(default=8, ge=1)  # of the stand-in's model: the processor time of a request
    behind: Literal["ray", "envoy"] = "ray"  # what passes requests on to the stand-in's replicas
    retries: int = Field(default=0, ge=0)  # of Envoy, for a request whose replica died under it
    manifest: str = "../day20/hpa.yaml"  # on a cluster: what is deployed


class Point(api.Params):
    fault: Literal["none", "pod_delete"] = "pod_delete"
    repeats: int = Field(default=5, ge=1)


METRICS = {
    "recovery_s": "median time from the fault until all replicas took requests; without one: time that one lacked",
    "error_rate_pct": "requests without a good answer, over the whole drill",
    "latency_p99_ms": "99th percentile of the latency of answered requests, from the moment they were due",
}


def needs(params: Params) -> Sequence[api.Needs]:
    environment, stand_in = ENVIRONMENTS[params.behind], STAND_INS[params.behind]
    return [
        api.Needs(backend=CLUSTER, environment=environment, binaries=("kubectl",), cluster=True),
        api.Needs(
            backend=stand_in, stand_in_for=CLUSTER, environment=environment, binaries=("setpriv",), memory_gb=2
        ),
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    with started(params, ctx) as fleet:
        for point in ctx.points:
            drill(params, point, fleet, ctx)


def started(params: Params, ctx: api.Context) -> AbstractContextManager[Fleet]:
    if ctx.backend == CLUSTER:
        return fleets.deployed(params.replicas, ctx.day / params.manifest, ctx.scratch)
    if params.behind == "envoy":
        return envoy_fleet.replicated(params.replicas, params.layers, params.retries, ctx.scratch)
    return fleets.replicated(params.replicas, params.layers)


def drill(params: Params, point: Point, fleet: Fleet, ctx: api.Context) -> None:
    """Load without a pause, while one replica after the other is killed and comes back."""
    import numpy as np

    choose, out = random.Random(ctx.seed), ctx.scratch / "answers.npy"
    recoveries: list[float] = []
    with open_load.load(fleet.target, [(point.repeats * params.limit_s, params.qps)], out, ctx.seed) as stop:
        for number in range(point.repeats):
            time.sleep(params.settle_s)
            if point.fault == "none":
                recoveries.append(lacking(fleet, params))
                continue
            fleet.kill_one(choose)
            recoveries.append(recovery(fleet, params))
            ctx.say(f"fault {number + 1} of {point.repeats}: recovered in {recoveries[-1]:.2f} s")
        time.sleep(params.settle_s)
        stop()
    answers = open_load.answers(out)
    latency = answers.latency_ms()
    times: Any = np.array(recoveries)
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    recovered = api.Spread(len(recoveries), float(p50), float(p95), float(p99), float(times.std()))
    ctx.record(
        point,
        {"recovery_s": recovered.p50, "error_rate_pct": answers.error_pct(), "latency_p99_ms": latency.p99},
        {
            "recovery_s": recovered,
            "latency_p99_ms": latency,
        },
        f"{len(answers.status)} requests, {int((answers.status != 200).sum())} failed",
    )


def lacking(fleet: Fleet, params: Params) -> float:
    """Seconds in which fewer replicas than wanted were ready, in a time as long as the quiet before a fault."""
    began = last = time.monotonic()
    lacked = 0.0
    while (now := time.monotonic()) - began < params.settle_s:
        lacked += (now - last) * (fleet.ready() < params.replicas)
        last = now
        time.sleep(LOOK_S)
    return lacked


def recovery(fleet: Fleet, params: Params) -> float:
    """Seconds until the loss has been noticed and made good. Raises UserError after `limit_s`."""
    killed, noticed = time.monotonic(), False
    while (waited := time.monotonic() - killed) < params.limit_s:
        ready = fleet.ready()
        noticed = noticed or ready < params.replicas
        if noticed and ready >= params.replicas:
            return waited
        time.sleep(LOOK_S)
    raise api.UserError(f"{params.replicas} replicas were not ready again within {params.limit_s:.0f} s of the fault")
