"""Kind `scrape_cost`: what a scrape interval costs Prometheus, and how true its charts are."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import configuration
from tasks.services import prometheus
from tasks.services.exposition import expose
from tasks.services.prometheus import Prometheus

METRICS = {
    "cpu_pct": "CPU time of Prometheus over the window, in percent of one core",
    "rss_mb": "resident memory of Prometheus at the end of the window, after a garbage collection",
    "samples_per_s": "samples that Prometheus stored in a second, by its own counter",
    "series_roughness": "mean height of a step in the drawn chart of a wave, as a share of the wave's full height",
    "chart_error_pct": "RMS distance of the drawn chart from the wave itself, in percent of the wave's full height",
    "series_count": "time series in the head of the TSDB",
}
WAVE, JOB = "wave_value", "service"
EDGE_S = 2.0  # the window begins this long after the slowest server's scrape, so that none falls on its edge
CHART_STEP_S = 1.0  # the resolution of the drawn chart
SAMPLES = "prometheus_tsdb_head_samples_appended_total"


class Params(Base):
    config: str = "prometheus.yaml"
    series: int = 5000  # of the scraped target
    window_s: float = 45  # a multiple of every interval: the number of scrapes in it does not depend on their phase
    wave_s: float = 40  # period of the signal that is charted


class Point(Base):
    scrape_interval: Literal["1s", "5s", "15s"] = "15s"

    @property
    def seconds(self) -> float:
        return float(self.scrape_interval.removesuffix("s"))


@dataclass(frozen=True)
class Reading:
    """What a Prometheus has used and stored up to a moment."""

    cpu_s: float
    samples: float


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Prometheus", binaries=("prometheus", "promtool"), modules=("prometheus_client",))]


def run(params: Params, ctx: Context) -> None:
    """One Prometheus for each interval, side by side on the same target: the load is light, the moment is the same."""
    if odd := [point.scrape_interval for point in ctx.points if params.window_s % point.seconds]:
        raise UserError(f"window_s={params.window_s:g} is no multiple of {', '.join(odd)}")
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    with ExitStack() as stack:
        address = stack.enter_context(expose(target(params)))
        servers: dict[Point, Prometheus] = {}
        for point in ctx.points:
            placed = configuration.placed(config, ctx.day, {JOB: address}, interval_s=point.seconds, rules=False)
            folder = ctx.scratch / point.scrape_interval
            servers[point] = stack.enter_context(prometheus.configured(placed, folder))
        for server in servers.values():
            prometheus.await_targets(server, 1, timeout_s=20)  # the first scrape makes every series: not counted
        time.sleep(EDGE_S)
        before = {point: reading(server) for point, server in servers.items()}
        start = time.time()
        ctx.say(f"{len(servers)} servers scrape {params.series} series for {params.window_s:g} s")
        time.sleep(params.window_s)  # the measurement itself
        end = time.time()
        after = {point: reading(server) for point, server in servers.items()}
        for point, server in servers.items():
            chart = drawn(server, params, start, end)
            ctx.record(point, figures(server, before[point], after[point], end - start) | chart)


def target(params: Params) -> Any:
    """A registry of gauges that change at every scrape, and the wave."""
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    gauge = Gauge("work_value", "A value that changes at every scrape", ["part"], registry=registry)
    for part in range(params.series - 1):
        gauge.labels(part=f"p{part}").set_function(lambda part=part: (time.time() * (1 + part)) % 1000)
    wave_gauge = Gauge(WAVE, "A wave of known shape between 0 and 1", registry=registry)
    wave_gauge.set_function(lambda: wave(time.time(), params.wave_s))
    return registry


def wave(at: float, period_s: float) -> float:
    return (1 + math.sin(2 * math.pi * at / period_s)) / 2


def reading(server: Prometheus) -> Reading:
    import psutil

    times = psutil.Process(server.pid).cpu_times()
    return Reading(times.user + times.system, server.own(SAMPLES))


def figures(server: Prometheus, before: Reading, after: Reading, seconds: float) -> dict[str, float]:
    import psutil

    server.collect_garbage()
    return {
        "cpu_pct": 100 * (after.cpu_s - before.cpu_s) / seconds,
        "rss_mb": psutil.Process(server.pid).memory_info().rss / 2**20,
        "samples_per_s": (after.samples - before.samples) / seconds,
        "series_count": server.own("prometheus_tsdb_head_series"),
    }


def drawn(server: Prometheus, params: Params, start: float, end: float) -> dict[str, float]:
    """How the wave's chart steps and how far it is from the wave."""
    import numpy

    found = server.query_range(WAVE, start, end, CHART_STEP_S)
    if not found:
        raise UserError(f"Prometheus has no samples of {WAVE}")
    moments, values = numpy.array(found[0].samples).T
    steps = numpy.abs(numpy.diff(values))
    moved = steps[steps > 0]
    truth = numpy.array([wave(at, params.wave_s) for at in moments])
    return {
        "series_roughness": float(moved.mean()) if len(moved) else 0.0,
        "chart_error_pct": 100 * float(numpy.sqrt(((values - truth) ** 2).mean())),
    }
