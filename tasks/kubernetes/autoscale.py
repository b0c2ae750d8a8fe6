"""Scaling by the Horizontal Pod Autoscaler of `hpa.yaml`: what triggers it, how fast it is, what it costs.

On a reachable cluster the file itself is applied; elsewhere its targets, bounds and rules drive Ray Serve replicas on
this machine by the HPA's formula. Load is open-loop; latencies count from the moment a request was due.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.kubernetes import cluster_plant, manifest, serve_plant
from tasks.kubernetes.manifest import Autoscaler
from tasks.kubernetes.plant import Plant
from tasks.kubernetes.watch import Phases, Watched, watch

CLUSTER, STAND_IN = "Kubernetes", "Ray Serve"
RISE_S = 2.0  # an earlier, quiet load: connections and code paths are warm, and the metric has a history


class Phase(api.Params):
    seconds: float = Field(gt=0)
    qps: float = Field(gt=0)


class Params(api.Params):
    """`question` says what is varied and measured; `load` is what all its points are offered, phase after phase."""

    question: Literal["trigger", "curve", "cold_start", "cooldown", "compare"]
    load: tuple[Phase, ...] = Field(default=(), strict=False)
    seconds: float = Field(default=8.0, gt=0)  # of each point of `curve`, whose rate is the point's
    decides: Literal["cpu", "qps"] = "qps"  # the metric that the stand-in's autoscaler follows
    manifest: str = "hpa.yaml"
    layers: int = Field(default=8, ge=1)  # of the stand-in's model: the processor time of a request
    sync_s: float = Field(default=1.0, gt=0)  # the stand-in's control period; a cluster's is 15 s
    time_scale: float = Field(default=1.0, gt=0)  # seconds of the stand-in's autoscaler in a second of load


class Point(api.Params):
    cpu_target_pct: int = 50
    trigger: Literal["cpu50", "qps_threshold"] = "qps_threshold"  # the one metric that decides in `compare`
    metric: Literal["qps"] = "qps"
    qps: int = Field(default=100, gt=0)
    start: Literal["warm", "cold"] = "warm"
    cooldown_s: int = Field(default=0, ge=0)


METRICS = {
    "scale_out_s": "from the first request of the load until the highest number of replicas ran (0: no scale-out)",
    "replicas": "replicas running when the load ended",
    "peak_replicas": "the most replicas that ran at the same time",
    "cpu_pct": "mean processor use of a replica in percent of its CPU request, last quarter of the load",
    "metric_lag_s": "from the load's first request until the metric showed 90% of the rate served (steps of 0.25 s)",
    "achieved_qps": "requests answered per second of the load",
    "latency_p99_ms": "99th percentile of the latency of answered requests, from the moment they were due",
    "time_to_ready_s": "from the first request of the load until a replica ran (0: it already did)",
    "time_to_steady_s": "until every later half second's median latency stayed within twice that of the last quarter",
    "scale_events": "changes of the number of replicas asked for",
    "replica_stddev": "standard deviation of the running replicas over the load",
    "excess_replica_s": "replica-seconds on the autoscaler's clock above what the offered rate needed",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(backend=CLUSTER, environment="ray", binaries=("kubectl",), cluster=True),
        api.Needs(
            backend=STAND_IN, stand_in_for=CLUSTER, environment="ray", binaries=("prometheus", "setpriv"), memory_gb=2.5
        ),
    ]


def run(params: Params, ctx: api.Context) -> None:
    file = ctx.day / params.manifest
    scaler = manifest.read(file)
    with plant(params, scaler, ctx) as system:
        for point in ctx.points:
            MEASURE[params.question](params, point, scaler, system, ctx)


def phases(params: Params) -> Phases:
    return [(phase.seconds, phase.qps) for phase in params.load]


def plant(params: Params, scaler: Autoscaler, ctx: api.Context) -> AbstractContextManager[Plant]:
    if ctx.backend == CLUSTER:
        return cluster_plant.applied(ctx.day / params.manifest, ctx.scratch)
    return serve_plant.started(
        ctx.scratch, scaler.bounds.most, params.layers, params.decides, params.sync_s, params.time_scale
    )


def trigger(params: Params, point: Point, scaler: Autoscaler, system: Plant, ctx: api.Context) -> None:
    """Load that one replica must not carry alone, judged by one metric."""
    if params.decides == "cpu" and scaler.cpu_target_pct != point.cpu_target_pct:
        raise api.UserError(
            f"averageUtilization is {scaler.cpu_target_pct:.0f} but the experiment measures {point.cpu_target_pct}",
            where=str(ctx.day / params.manifest), remedy=f"set it to {point.cpu_target_pct}, or change the matrix",
        )  # fmt: skip
    record(point, offered(phases(params), scaler, system, ctx, point), ctx)


def curve(params: Params, point: Point, scaler: Autoscaler, system: Plant, ctx: api.Context) -> None:
    """One constant rate, from the least number of replicas."""
    record(point, offered([(params.seconds, point.qps)], scaler, system, ctx, point), ctx)


def offered(load: Phases, scaler: Autoscaler, system: Plant, ctx: api.Context, point: Point) -> Watched:
    """The load on a freshly reset and warmed system."""
    system.reset(scaler)
    warm(system, ctx)
    system.reset(scaler)
    return kept(watch(system, load, ctx.scratch, ctx.seed), point, ctx)


def warm(system: Plant, ctx: api.Context) -> None:
    watch(system, [(RISE_S, 20.0)], ctx.scratch, ctx.seed + 1)


def kept(watched: Watched, point: Point, ctx: api.Context) -> Watched:
    values = point.model_dump(mode="json", exclude_unset=True)
    watched.save(ctx.out, "-".join(f"{axis}-{value}" for axis, value in values.items()) or "all")
    return watched


def record(point: Point, watched: Watched, ctx: api.Context) -> None:
    """What every steady load shows; metrics that the system does not expose are left out."""
    latency = watched.answers.latency_ms()
    measured = {
        "scale_out_s": watched.scale_out_s(), "replicas": watched.replicas(), "cpu_pct": watched.steady_cpu_pct(),
        "metric_lag_s": watched.metric_lag_s(), "achieved_qps": watched.answers.achieved_qps(watched.seconds),
        "latency_p99_ms": latency.p99,
    }  # fmt: skip
    known = {name: float(value) for name, value in measured.items() if value is not None}
    ctx.record(point, known, {"latency_p99_ms": latency}, watched.note)


def cold_start(params: Params, point: Point, scaler: Autoscaler, system: Plant, ctx: api.Context) -> None:
    """The same load on a replica that has answered before, and on none."""
    system.reset(scaler)
    warm(system, ctx)
    if point.start == "cold":
        system.go_cold()
    watched = kept(watch(system, phases(params), ctx.scratch, ctx.seed), point, ctx)
    latency = watched.answers.latency_ms()
    ready = [at for at, seen in watched.looks if seen.running]
    if not ready:
        raise api.UserError(f"no replica was ready within {watched.seconds:.0f} s", remedy="lengthen the load")
    measured = {
        "latency_p99_ms": latency.p99,
        "time_to_ready_s": ready[0] if point.start == "cold" else 0.0,
        "time_to_steady_s": watched.steady_s(),
    }
    ctx.record(point, measured, {"latency_p99_ms": latency}, watched.note)


def compare(params: Params, point: Point, scaler: Autoscaler, system: Plant, ctx: api.Context) -> None:
    """A burst that comes and goes, judged by one metric alone: how fast it reacts and by how much it overshoots."""
    system.follow("cpu" if point.trigger == "cpu50" else "qps")
    watched = offered(phases(params), scaler, system, ctx, point)
    latency = watched.answers.latency_ms()
    measured = {
        "scale_out_s": watched.scale_out_s(), "peak_replicas": float(watched.peak()),
        "excess_replica_s": excess(watched, params, scaler), "latency_p99_ms": latency.p99,
    }  # fmt: skip
    ctx.record(point, measured, {"latency_p99_ms": latency}, watched.note)


def excess(watched: Watched, params: Params, scaler: Autoscaler) -> float:
    """Replica-seconds above what the offered rate needed, on the autoscaler's clock."""
    import numpy as np

    times = np.array([at for at, _ in watched.looks])
    running = np.array([seen.running for _, seen in watched.looks])
    spare = np.maximum(0, running - [needed(at, phases(params), scaler) for at in times])
    return float(np.trapezoid(spare, times) * params.time_scale)


def cooldown(params: Params, point: Point, scaler: Autoscaler, system: Plant, ctx: api.Context) -> None:
    """A load that comes and goes, under a scale-down stabilization window of `cooldown_s`."""
    import numpy as np

    watched = offered(phases(params), scaler.with_cooldown(point.cooldown_s), system, ctx, point)
    running = np.array([seen.running for _, seen in watched.looks])
    desired = np.array([seen.desired for _, seen in watched.looks])
    latency = watched.answers.latency_ms()
    measured = {
        "scale_events": float(np.count_nonzero(np.diff(desired))),
        "replica_stddev": float(running.std()),
        "excess_replica_s": excess(watched, params, scaler),
        "latency_p99_ms": latency.p99,
    }
    notes = [watched.note] if watched.note else []
    if params.time_scale != 1:
        notes.append(f"the autoscaler's clock ran {params.time_scale:g} times as fast as the load's")
    ctx.record(point, measured, {"latency_p99_ms": latency}, "; ".join(notes))


def needed(at: float, load: Phases, scaler: Autoscaler) -> int:
    """Replicas that the rate offered at this moment needs by the QPS target, within the bounds."""
    rate, end = 0.0, 0.0
    for seconds, qps in load:
        end += seconds
        if at < end:
            rate = qps
            break
    return max(scaler.bounds.least, min(scaler.bounds.most, math.ceil(rate / scaler.qps_target)))


MEASURE: dict[str, Any] = {
    "trigger": trigger,
    "curve": curve,
    "cold_start": cold_start,
    "cooldown": cooldown,
    "compare": compare,
}
