"""Kind `alert_webhook`: an alert on P99 latency, from the first slow request to the webhook and back to quiet."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import busy_service, configuration
from tasks.services import alertmanager, prometheus
from tasks.services.alertmanager import Webhooks
from tasks.services.exposition import expose
from tasks.services.prometheus import Prometheus

METRICS = {
    "time_to_fire_s": "from the first slow request until the alert fired; not there where it did not",
    "time_to_webhook_s": "from the first slow request until the webhook was called; not there where it was not",
    "time_to_resolve_s": "from the first request that is fast again until the webhook heard that it is over",
    "webhook_count": "calls of the webhook, firing and resolved",
    "resolved_bool": "1 when no alert is active in the end",
    "p99_ms": "the P99 that the alert's rule saw under the load that is tested",
}
JOB, HISTOGRAM = "service", "http_request_duration_seconds"
P99 = f'histogram_quantile(0.99, sum by (le) (rate({HISTOGRAM}_bucket{{job="{JOB}"}}[5s]))) * 1000'
WAIT_S = 40
ONLY_WHEN_FIRED = ("time_to_fire_s", "time_to_webhook_s")


class Params(Base):
    config: str = "prometheus.yaml"
    alert: str = "P99LatencyHigh"  # of the configuration's rule files
    fast_ms: float = 20
    slow_ms: float = 200
    workers: int = 8
    interval_s: float = 1  # of scrapes
    quiet_s: float = 10  # how long no webhook may come while the latency is below the threshold


class Point(Base):
    p99: Literal["below", "above"] = "above"


@dataclass
class Latency:
    """How long requests work, changed while they are served."""

    work_ms: float

    def work_s(self, chance: random.Random) -> float:
        return self.work_ms / 1000 * chance.uniform(0.8, 1.2)


@dataclass(frozen=True)
class Chain:
    """Service, Prometheus, Alertmanager and webhook, all running."""

    latency: Latency
    server: Prometheus
    hooks: Webhooks


def needs(params: Params) -> Sequence[Needs]:
    return [
        Needs(
            "Prometheus rule + Alertmanager", stand_in_for="Grafana alerting", modules=("prometheus_client",),
            binaries=("prometheus", "promtool", "prometheus-alertmanager"), unmeasured=ONLY_WHEN_FIRED,
        )
    ]  # fmt: skip


def run(params: Params, ctx: Context) -> None:
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    for point in ctx.points:
        ctx.say(f"P99 {point.p99} the threshold")
        with chain(params, ctx, config, point.p99) as running:
            ctx.record(point, above(params, running) if point.p99 == "above" else below(params, running))


@contextmanager
def chain(params: Params, ctx: Context, config: dict[str, Any], name: str) -> Iterator[Chain]:
    """The whole chain with fast requests, until the rule has seen them."""
    from prometheus_client import CollectorRegistry, Histogram

    registry, latency = CollectorRegistry(), Latency(params.fast_ms)
    histogram = Histogram(HISTOGRAM, "Time to serve a request", registry=registry)
    folder = ctx.scratch / name
    with (
        alertmanager.webhooks() as hooks,
        alertmanager.serve(alertmanager.configuration(hooks.url("oncall")), folder / "alertmanager") as manager,
        expose(registry) as address,
        busy_service.serving(latency.work_s, lambda _, took: histogram.observe(took), params.workers, ctx.seed),
    ):
        placed = configuration.placed(
            config, ctx.day, {JOB: address}, interval_s=params.interval_s, alertmanager=manager.address
        )
        with prometheus.configured(placed, folder / "prometheus") as server:
            prometheus.await_targets(server, 1, timeout_s=20)
            await_rule(server, params.alert)
            yield Chain(latency, server, hooks)


def below(params: Params, running: Chain) -> dict[str, float]:
    """All quiet: what comes to the webhook in the meantime is a false alarm, and counted."""
    time.sleep(params.quiet_s)  # the observation itself
    return ending(running, p99_ms(running.server))


def above(params: Params, running: Chain) -> dict[str, float]:
    """Slow until the webhook is called, then fast until it is called again."""
    slow = time.time()
    running.latency.work_ms = params.slow_ms
    fired = running.hooks.wait(lambda one: one.status == "firing", WAIT_S, "firing alert")
    seen = p99_ms(running.server)
    fast = time.time()
    running.latency.work_ms = params.fast_ms
    resolved = running.hooks.wait(lambda one: one.status == "resolved", WAIT_S, "resolved alert")
    return {
        "time_to_fire_s": datetime.fromisoformat(fired.alerts[0]["startsAt"]).timestamp() - slow,
        "time_to_webhook_s": fired.at - slow,
        "time_to_resolve_s": resolved.at - fast,
        **ending(running, seen),
    }


def ending(running: Chain, p99: float) -> dict[str, float]:
    active = running.server.ask("alerts", {})["alerts"]
    return {"webhook_count": len(running.hooks.deliveries()), "resolved_bool": not active, "p99_ms": p99}


def p99_ms(server: Prometheus) -> float:
    return server.query(P99)[0].samples[0][1]


def await_rule(server: Prometheus, alert: str) -> None:
    """Wait until the alert's rule is evaluated on requests. Raises UserError when there is no such alert."""
    deadline = time.monotonic() + WAIT_S
    while True:
        rules = [rule for group in server.ask("rules", {})["groups"] for rule in group["rules"]]
        rule = next((one for one in rules if one["name"] == alert), None)
        if rule is None:
            raise UserError(f"the rule files have no alert {alert!r}")
        if rule["health"] == "ok" and server.query(f"{P99} > 0"):
            return
        if time.monotonic() > deadline:
            raise UserError(f"the alert {alert!r} is not evaluated: {rule.get('lastError', rule['health'])}")
        time.sleep(0.2)
