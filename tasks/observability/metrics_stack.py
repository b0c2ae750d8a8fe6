"""Kind `metrics_stack`: each model's latency curve by Prometheus beside what the clients measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Literal

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.observability import picture
from tasks.observability.panels import DURATIONS, mean_ms
from tasks.observability.watch import Watch, finish, watching
from tasks.services import perf_analyzer
from tasks.services.perf_analyzer import Load
from tasks.triton import pair

METRICS = {
    "mean_latency_ms": "mean time of a request in the server, by Prometheus over the load",
    "queue_ms": "mean time of a request in the model's queue, likewise",
    "compute_ms": "mean time of a request in the model's input, inference and output, likewise",
    "client_mean_latency_ms": "mean latency of a request seen by perf_analyzer in the same load",
    "server_client_diff_pct": "how far the clients' mean is above the server's: network, gRPC, the client itself",
    "scrape_points": "samples of the model's counters that Prometheus took during the load",
}
PICTURE = "latency_curves.png"
TITLE = "Two models on one Triton: mean time of a request"


class Params(pair.Pair):
    concurrency: int = 2
    window_ms: int = 2000  # the load is three of these
    rate_window: str = "2s"


class Point(Base):
    model: Literal["a", "b"] = "a"

    @property
    def served(self) -> str:
        return f"model_{self.model}"


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton + Prometheus", environment="triton", binaries=("prometheus",))]


def run(params: Params, ctx: Context) -> None:
    """Both models are loaded at the same time while Prometheus watches."""
    ctx.say("starting Triton")
    with pair.serve(params, ctx.day / params.config, ctx, ctx.out / "triton.log") as served:
        ctx.say("starting Prometheus")
        with watching(served.metrics, ctx.scratch / "prometheus") as prometheus:
            plans = [served.plan(model, ctx.seed, params.concurrency, params.window_ms) for model in (pair.A, pair.B)]
            ctx.say("loading both models")
            start = time.time()
            loads = perf_analyzer.measure_together([replace(plan, attempts=1) for plan in plans], served.grpc)
            watch = finish(prometheus, start)
            panels = {
                model: {duration: watch.curve(mean_ms(duration, model, params.rate_window)) for duration in DURATIONS}
                for model in (pair.A, pair.B)
            }
            for point in ctx.points:
                record(ctx, point, watch, loads[0 if point.served == pair.A else 1])
    picture.draw(ctx.out / PICTURE, TITLE, panels, start)


def record(ctx: Context, point: Point, watch: Watch, load: Load) -> None:
    server, client = watch.mean_ms(point.served, "request"), fmean(load.latencies_ms)
    metrics = {
        "mean_latency_ms": server,
        "queue_ms": watch.mean_ms(point.served, "queue"),
        "compute_ms": watch.mean_ms(point.served, "compute input", "compute", "compute output"),
        "client_mean_latency_ms": client,
        "server_client_diff_pct": (client - server) / server * 100,
        "scrape_points": watch.scrapes(point.served),
    }
    ctx.record(point, metrics, {"client_mean_latency_ms": load.latency}, load.note)
