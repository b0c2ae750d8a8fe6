"""Kind `label_cardinality`: what a gauge with many label values costs Prometheus, and what a roll-back gives back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import configuration
from tasks.services import prometheus
from tasks.services.exposition import expose
from tasks.services.prometheus import Prometheus

METRICS = {
    "rss_mb": "resident memory of Prometheus, after a garbage collection",
    "heap_mb": "memory that its Go heap has in use, likewise",
    "head_series": "time series in the head of the TSDB",
    "scrape_duration_s": "time of the last scrape, by Prometheus",
    "settle_s": "time from the change of the gauge until the head of the TSDB showed it",
}
JOB, GAUGE, LABEL = "service", "queue_depth", "shard"
SCRAPE_S = 1.0
# The head is written out and cleared of dead series every 1.5 head blocks: 3 hours as Prometheus comes. Too long here.
HEAD = ("--storage.tsdb.min-block-duration=6s", "--storage.tsdb.max-block-duration=1m")
SETTLE_S = 60
Stage = int | Literal["rollback"]


class Params(Base):
    config: str = "prometheus.yaml"
    stages: Sequence[int] = (0, 1000, 10000, 20000)  # label values, in the order in which they are added
    scrapes: int = 3  # of each stage before it is measured


class Point(Base):
    label_values: Stage = 0


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Prometheus", binaries=("prometheus", "promtool"), modules=("prometheus_client",))]


def run(params: Params, ctx: Context) -> None:
    """One Prometheus goes through all stages, as a label that gets out of hand does; the points asked for are kept."""
    from prometheus_client import CollectorRegistry, Gauge

    if lost := [p.label_values for p in ctx.points if p.label_values not in (*params.stages, "rollback")]:
        raise UserError(f"{lost[0]} is none of the stages {', '.join(map(str, params.stages))}")
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    registry = CollectorRegistry()
    gauge = Gauge(GAUGE, "Requests that wait", [LABEL], registry=registry)
    Gauge("service_up", "Always 1", registry=registry).set(1)
    with expose(registry) as address:
        placed = configuration.placed(config, ctx.day, {JOB: address}, interval_s=SCRAPE_S, rules=False)
        with prometheus.configured(placed, ctx.scratch / "prometheus", args=HEAD) as server:
            prometheus.await_targets(server, 1, timeout_s=20)
            base = server.own("prometheus_tsdb_head_series")
            stages: list[Stage] = [*params.stages, "rollback"]
            for stage in stages:
                ctx.say(f"{stage} label values")
                began, count = time.monotonic(), 0 if stage == "rollback" else stage
                change(gauge, count)
                await_series(server, base, count)
                settled = time.monotonic() - began
                for point in (one for one in ctx.points if one.label_values == stage):
                    await_scrapes(server, params.scrapes)
                    ctx.record(point, {**figures(server), "settle_s": settled})


def change(gauge: Any, count: int) -> None:
    """Give the gauge exactly so many label values."""
    if not count:
        gauge.clear()
    for value in range(count):
        gauge.labels(**{LABEL: f"shard-{value:06d}"}).set(value)


def await_series(server: Prometheus, base: float, count: int) -> None:
    """Wait until the head holds the gauge's series, and none that the target has given up."""
    deadline = time.monotonic() + SETTLE_S
    while abs(server.own("prometheus_tsdb_head_series") - base - count) > 5:  # rules and alerts may come and go
        if time.monotonic() > deadline:
            raise UserError(f"the head did not come to {count} series within {SETTLE_S} s")
        time.sleep(SCRAPE_S / 5)


def await_scrapes(server: Prometheus, count: int) -> None:
    """Wait for so many more scrapes of the target."""
    last, deadline = scraped(server), time.monotonic() + SETTLE_S
    while count:
        if time.monotonic() > deadline:
            raise UserError("Prometheus has stopped scraping")
        time.sleep(SCRAPE_S / 5)
        if (now := scraped(server)) > last:
            last, count = now, count - 1


def scraped(server: Prometheus) -> float:
    return server.query(f'timestamp(up{{job="{JOB}"}})')[0].samples[0][1]


def figures(server: Prometheus) -> dict[str, float]:
    import psutil

    duration = server.query(f'scrape_duration_seconds{{job="{JOB}"}}')[0].samples[0][1]
    server.collect_garbage()
    return {
        "rss_mb": psutil.Process(server.pid).memory_info().rss / 2**20,
        "heap_mb": server.own("go_memstats_heap_inuse_bytes") / 2**20,
        "head_series": server.own("prometheus_tsdb_head_series"),
        "scrape_duration_s": duration,
    }
