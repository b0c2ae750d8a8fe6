"""Kind `histogram_buckets`: how far histogram_quantile is from the exact quantiles, for different bucket boundaries."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from tasks.api import Context, Needs, Spread, UserError
from tasks.api import Params as Base
from tasks.observability import busy_service, configuration
from tasks.services import prometheus
from tasks.services.exposition import expose
from tasks.services.prometheus import Prometheus
from tasks.services.timing import spread

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
METRICS = {
    **{f"{name}_error_pct": f"distance of the estimated {name} from the exact one, in percent" for name in QUANTILES},
    **{f"{name}_ms": f"the {name} that histogram_quantile estimates" for name in QUANTILES},
    "p99_scatter_pct": "standard deviation of the p99 over windows of two seconds, in percent of the exact p99",
    "series_count": "time series of the histogram: buckets, sum, count and creation time of each route",
    "rss_mb": "resident memory of a Prometheus that scraped only this histogram, after a garbage collection",
}
JOB, NAME = "service", "http_request_duration_seconds"
SCRAPE_S = 0.5
WINDOW_S = 2
Samples = list[tuple[float, float]]  # (unix time, s)


class Params(Base):
    config: str = "prometheus.yaml"
    boundaries_ms: Mapping[str, Sequence[float]]  # scheme -> upper bounds of its buckets, without +Inf
    median_ms: float = 12.0  # of the work that a request asks for (log-normal)
    sigma: float = 0.6
    routes: int = 40  # label values: each has all the buckets
    workers: int = 4
    seconds: float = 8


class Point(Base):
    buckets: str = ""  # day 6's name for the axis
    bucket_scheme: str = ""  # day 13's

    @property
    def scheme(self) -> str:
        return self.buckets or self.bucket_scheme


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Prometheus", binaries=("prometheus", "promtool"), modules=("prometheus_client",))]


def run(params: Params, ctx: Context) -> None:
    """Every scheme sees the same requests, in a histogram and a Prometheus of its own."""
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    with ExitStack() as stack:
        histograms, servers = [], {}
        for point in ctx.points:
            histogram, registry = make(params, point)
            address = stack.enter_context(expose(registry))
            placed = configuration.placed(config, ctx.day, {JOB: address}, interval_s=SCRAPE_S, rules=False)
            histograms.append(histogram)
            servers[point] = stack.enter_context(prometheus.configured(placed, ctx.scratch / point.scheme))
        for server in servers.values():
            prometheus.await_targets(server, 1, timeout_s=20)  # every series is there, with 0 observations
        ctx.say("loading the service")
        start = time.time()
        samples = serve(params, histograms, ctx.seed)
        exact = quantiles([seconds for _, seconds in samples])
        for point, server in servers.items():
            await_count(server, len(samples))
            ctx.record(point, figures(server, exact, start, time.time()), {"p99_ms": in_ms(samples)})


def make(params: Params, point: Point) -> tuple[Any, Any]:
    """A histogram with the scheme's buckets, each route's series at 0, in a registry of its own."""
    from prometheus_client import CollectorRegistry, Histogram

    if point.scheme not in params.boundaries_ms:
        raise UserError(f"boundaries_ms has no {point.scheme!r}, only {', '.join(params.boundaries_ms)}")
    registry = CollectorRegistry()
    bounds = [bound / 1000 for bound in params.boundaries_ms[point.scheme]]
    histogram = Histogram(NAME, "Time to serve a request", ["route"], buckets=bounds, registry=registry)
    for route in range(params.routes):
        histogram.labels(route=f"/r{route}")
    return histogram, registry


def serve(params: Params, histograms: Sequence[Any], seed: int) -> Samples:
    """Workers serve requests of random length for a while; each one's measured time goes to every histogram."""
    samples: Samples = []

    def work_s(chance: random.Random) -> float:
        return params.median_ms / 1000 * chance.lognormvariate(0, params.sigma)

    def observe(chance: random.Random, seconds: float) -> None:
        samples.append((time.time(), seconds))
        route = f"/r{chance.randrange(params.routes)}"
        for histogram in histograms:
            histogram.labels(route=route).observe(seconds)

    with busy_service.serving(work_s, observe, params.workers, seed):
        time.sleep(params.seconds)  # the load itself
    return samples


def await_count(server: Prometheus, count: int) -> None:
    """Wait until the last observation is scraped."""
    deadline = time.monotonic() + 20
    while server.query(f"sum({NAME}_count)")[0].samples[0][1] < count:
        if time.monotonic() > deadline:
            raise UserError("Prometheus has stopped scraping")
        time.sleep(SCRAPE_S / 5)


def figures(server: Prometheus, exact: Mapping[str, float], start: float, end: float) -> dict[str, float]:
    import numpy
    import psutil

    found = {
        name: estimate(server, quantile, f"{end - start + 2 * SCRAPE_S:.0f}s") for name, quantile in QUANTILES.items()
    }
    curve = server.query_range(expression(0.99, f"{WINDOW_S}s"), start + WINDOW_S, end, WINDOW_S)
    scatter = float(numpy.nanstd([value for _, value in curve[0].samples])) if curve else float("nan")
    series = server.query(f'count({{__name__=~"{NAME}_(bucket|sum|count|created)"}})')[0].samples[0][1]
    server.collect_garbage()
    return {
        **{f"{name}_error_pct": abs(found[name] - exact[name]) / exact[name] * 100 for name in QUANTILES},
        **{f"{name}_ms": found[name] * 1000 for name in QUANTILES},
        "p99_scatter_pct": 100 * scatter / exact["p99"],
        "series_count": series,
        "rss_mb": psutil.Process(server.pid).memory_info().rss / 2**20,
    }


def expression(quantile: float, window: str) -> str:
    return f"histogram_quantile({quantile}, sum by (le) (rate({NAME}_bucket[{window}])))"


def estimate(server: Prometheus, quantile: float, window: str) -> float:
    """The quantile in s over the window, which holds the whole load and the zeros before it."""
    return server.query(expression(quantile, window))[0].samples[0][1]


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """The exact quantiles of the sample, in its unit."""
    import numpy

    return {name: float(numpy.percentile(seconds, 100 * quantile)) for name, quantile in QUANTILES.items()}


def in_ms(samples: Samples) -> Spread:
    """The exact distribution beside the estimates."""
    return spread([seconds * 1000 for _, seconds in samples])
