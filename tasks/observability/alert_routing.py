"""Kind `alert_routing`: a drill. Each severity's alert, raised by a metric, must reach its channel and no other."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import configuration
from tasks.services import alertmanager, prometheus
from tasks.services.alertmanager import Delivery, Webhooks
from tasks.services.exposition import expose

METRICS = {
    "delivered_count": "alerts of the drill that reached the severity's own channel",
    "wrong_route_count": "alerts of the drill that reached any other channel",
    "delivery_delay_s": "from the metric's change until the channel was called for the first time",
}
JOB, GAUGE = "exporter", "drill_active"
Severity = Literal["info", "warning", "critical"]


class Params(Base):
    config: str = "prometheus.yaml"
    routes: str = "alertmanager.yaml"
    alert: str = "Drill"  # fires while the gauge drill_active{severity=…} is 1
    channels: Mapping[Severity, str]  # severity -> receiver that must hear of it
    instances: int = 3  # alerts of each severity
    interval_s: float = 1
    listen_s: float = 3  # how long another channel may still be called by mistake
    timeout_s: float = 30


class Point(Base):
    severity: Severity = "info"


def needs(params: Params) -> Sequence[Needs]:
    binaries = ("prometheus", "promtool", "prometheus-alertmanager")
    return [Needs("Prometheus + Alertmanager", binaries=binaries, modules=("prometheus_client",))]


def run(params: Params, ctx: Context) -> None:
    """One exporter, Prometheus and Alertmanager for all severities; each receiver is a webhook of its own."""
    from prometheus_client import CollectorRegistry, Gauge

    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    registry = CollectorRegistry()
    gauge = Gauge(GAUGE, "1 while the routing drill runs", ["severity", "part"], registry=registry)
    with (
        alertmanager.webhooks() as hooks,
        alertmanager.serve(redirected(ctx.day / params.routes, hooks), ctx.scratch / "alertmanager") as manager,
        expose(registry) as address,
    ):
        placed = configuration.placed(
            config, ctx.day, {JOB: address}, interval_s=params.interval_s, alertmanager=manager.address
        )
        with prometheus.configured(placed, ctx.scratch / "prometheus") as server:
            prometheus.await_targets(server, 1, timeout_s=20)
            for point in ctx.points:
                ctx.say(f"drill: {point.severity}")
                ctx.record(point, drill(params, point.severity, gauge, hooks))


def redirected(file: Path, hooks: Webhooks) -> dict[str, Any]:
    """The learner's routing tree, every receiver of it a webhook here. Raises UserError when it cannot be read."""
    import yaml

    try:
        config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
        for receiver in config["receivers"]:
            name = receiver["name"]
            receiver.clear()
            receiver |= {"name": name, "webhook_configs": [{"url": hooks.url(name)}]}
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=file.name) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"is not YAML: {error.problem}", where=f"{file.name}:{line}") from error
    except (TypeError, KeyError) as error:
        raise UserError("has no list of receivers with names", where=file.name) from error
    return config


def drill(params: Params, severity: Severity, gauge: Any, hooks: Webhooks) -> dict[str, float]:
    """Raise the alerts of a severity, wait for its channel, listen a while to the others, lower them."""
    if severity not in params.channels:
        raise UserError(f"channels names no receiver for {severity}")
    channel = params.channels[severity]
    raised = time.time()
    for part in range(params.instances):
        gauge.labels(severity=severity, part=str(part)).set(1)
    wanted = {"alertname": params.alert, "severity": severity}
    try:
        first = hooks.wait(lambda one: bool(alerts(one, wanted)), params.timeout_s, f"{severity} alert")
        time.sleep(params.listen_s)  # silence elsewhere can only be observed
    finally:
        for part in range(params.instances):
            gauge.labels(severity=severity, part=str(part)).set(0)
    calls = hooks.deliveries()
    return {
        "delivered_count": len(set().union(*(alerts(one, wanted) for one in calls if one.receiver == channel))),
        "wrong_route_count": sum(len(alerts(one, wanted)) for one in calls if one.receiver != channel),
        "delivery_delay_s": first.at - raised,
    }


def alerts(delivery: Delivery, wanted: Mapping[str, str]) -> set[tuple[tuple[str, str], ...]]:
    """The label sets of a call's firing alerts that have the wanted labels."""
    labels = [alert["labels"] for alert in delivery.alerts if alert["status"] == "firing"]
    return {tuple(sorted(one.items())) for one in labels if wanted.items() <= one.items()}
