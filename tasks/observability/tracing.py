"""Kind `tracing`: from a slow bucket of a histogram to the trace of a request in it, with exemplars and without."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import busy_service, configuration
from tasks.services import prometheus, trace_store
from tasks.services.exposition import expose
from tasks.services.prometheus import Prometheus
from tasks.services.timing import repeat, spread
from tasks.services.trace_store import TraceStore

METRICS = {
    "exemplar_count": "exemplars that Prometheus stored for the histogram",
    "resolved_trace_pct": "slow buckets with requests from which an exemplar leads to a stored trace as slow as that",
    "lookup_ms": "median time to a slow trace: by exemplar and trace id, or else by a search over all traces",
    "slow_buckets": "buckets above the slow threshold that hold requests",
    "requests": "requests served, each with a trace",
}
JOB, HISTOGRAM = "service", "http_request_duration_seconds"
FLUSH_S = 60
SLACK_S = 0.002  # the store keeps durations in whole milliseconds
FEATURE = "--enable-feature=exemplar-storage"


class Params(Base):
    config: str = "prometheus.yaml"
    bounds_s: Sequence[float] = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
    slow_s: float = 0.1  # buckets above this are the ones that one wants to understand
    slow_share: float = 0.05  # of the requests
    workers: int = 4
    seconds: float = 5
    interval_s: float = 1  # of scrapes: each brings the newest exemplar of every bucket
    budget_s: float = 1  # of repeated look-ups


class Point(Base):
    exemplars: Literal["off", "on"] = "on"


@dataclass(frozen=True)
class Service:
    """An instrumented service: `observe` takes the time in s that a request took and writes metric and trace.

    Spans are sent in batches; `flush` sends what is left.
    """

    registry: Any
    observe: Callable[[random.Random, float], None]
    flush: Callable[[], None]


def needs(params: Params) -> Sequence[Needs]:
    modules = ("prometheus_client", "opentelemetry.exporter.otlp.proto.http")
    return [Needs("OpenTelemetry + Prometheus + MLflow traces", binaries=("prometheus", "promtool"), modules=modules)]


def run(params: Params, ctx: Context) -> None:
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    ctx.say("starting the trace store")
    with trace_store.serve(ctx.scratch / "traces") as store:
        for point in ctx.points:
            ctx.say(f"serving requests, exemplars {point.exemplars}")
            with instrumented(params, point.exemplars == "on", store) as service, expose(service.registry) as address:
                placed = configuration.placed(
                    config, ctx.day, {JOB: address}, interval_s=params.interval_s, rules=False
                )
                with prometheus.configured(placed, ctx.scratch / point.exemplars, args=[FEATURE]) as server:
                    prometheus.await_targets(server, 1, timeout_s=20)
                    measure(params, ctx, point, service, server, store)


@contextmanager
def instrumented(params: Params, exemplars: bool, store: TraceStore) -> Iterator[Service]:
    """A service whose requests are spans in the store and observations in a histogram;"""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import set_span_in_context
    from prometheus_client import CollectorRegistry, Histogram

    registry = CollectorRegistry()
    histogram = Histogram(HISTOGRAM, "Time to serve a request", buckets=params.bounds_s, registry=registry)
    url, headers = store.otlp
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(url, headers=headers), schedule_delay_millis=500))
    tracer = provider.get_tracer("infra90")

    def observe(chance: random.Random, took: float) -> None:
        end = time.time_ns()
        start = end - round(took * 1e9)
        span = tracer.start_span("request", start_time=start)
        tracer.start_span("model", set_span_in_context(span), start_time=start).end(end)
        span.end(end)
        trace_id = f"{span.get_span_context().trace_id:032x}"
        histogram.observe(took, exemplar={"trace_id": trace_id} if exemplars else None)

    def flush() -> None:
        if not provider.force_flush(FLUSH_S * 1000):
            raise UserError(f"the trace store did not take the spans within {FLUSH_S} s")

    try:
        yield Service(registry, observe, flush)
    finally:
        provider.shutdown()


def measure(
    params: Params, ctx: Context, point: Point, service: Service, server: Prometheus, store: TraceStore
) -> None:
    start = time.time()
    with busy_service.serving(lambda chance: work_s(params, chance), service.observe, params.workers, ctx.seed):
        time.sleep(params.seconds)  # the load itself
    counts = await_scrape(server, time.time())
    service.flush()
    slow = {
        le: below
        for below, le in pairwise((0.0, *params.bounds_s))
        if le > params.slow_s and counts[le] > counts[below]
    }
    resolved = [le for le, below in slow.items() if leads_to_trace(server, store, le, below, start)]
    found = exemplars(server, start)
    if point.exemplars == "on":
        slowest = max(slow)
        times = repeat(leads_to_trace, [(server, store, slowest, slow[slowest], start)], params.budget_s)
    else:
        times = repeat(store.slower_than, [(params.slow_s * 1000, 1)], params.budget_s)
    lookup = spread(times)
    metrics = {
        "exemplar_count": sum(map(len, found.values())),
        "resolved_trace_pct": 100 * len(resolved) / len(slow),
        "lookup_ms": lookup.p50,
        "slow_buckets": len(slow),
        "requests": counts[float("inf")],
    }
    ctx.record(point, metrics, {"lookup_ms": lookup})


def work_s(params: Params, chance: random.Random) -> float:
    """Most requests are quick, some take a while."""
    slow = chance.random() < params.slow_share
    return chance.uniform(params.slow_s * 1.1, params.slow_s * 5) if slow else chance.uniform(0.005, 0.04)


def await_scrape(server: Prometheus, end: float) -> dict[float, float]:
    """The histogram's cumulative counts by upper bound, scraped after `end`; 0 at the bound 0."""
    deadline = time.monotonic() + 20
    while server.query(f"timestamp({HISTOGRAM}_count)")[0].samples[0][1] < end:
        if time.monotonic() > deadline:
            raise UserError("Prometheus has stopped scraping")
        time.sleep(0.1)
    series = server.query(f"{HISTOGRAM}_bucket")
    return {0.0: 0.0, **{float(one.labels["le"]): one.samples[0][1] for one in series}}


def exemplars(server: Prometheus, start: float) -> dict[float, list[dict[str, Any]]]:
    """The stored exemplars by their bucket's upper bound, oldest first: `{labels: {trace_id}, value, timestamp}`."""
    found = server.ask("query_exemplars", {"query": f"{HISTOGRAM}_bucket", "start": start, "end": time.time()})
    return {float(one["seriesLabels"]["le"]): one["exemplars"] for one in found}


def leads_to_trace(server: Prometheus, store: TraceStore, le: float, below: float, start: float) -> bool:
    """Whether the newest exemplar of a bucket names a stored trace whose duration lies in the bucket."""
    known = exemplars(server, start).get(le)
    trace = store.get(known[-1]["labels"]["trace_id"]) if known else None
    if trace is None:
        return False
    return below - SLACK_S <= float(trace["execution_duration"].removesuffix("s")) <= le + SLACK_S
