"""Alerts in real time: an exporter that shows the bad values, Prometheus with the rules, Alertmanager, a webhook."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tasks.alerting import rules, simulation
from tasks.alerting.rules import Alert
from tasks.alerting.signals import Signal
from tasks.services import alertmanager, process, prometheus

INTERVAL_S, HOLD = 0.5, "1s"
DELIVERY_S = 20.0


def delivered(file: Path, shown: Sequence[tuple[Alert, Signal, float]], folder: Path) -> dict[str, float]:
    """Seconds from the first scrape until the webhook had each alert. Raises UserError when one does not come.

    The rules are the file's own, except that every `for` is cut to a second.
    """
    impatient = folder / "impatient.yaml"
    impatient.write_text(json.dumps(hurried(rules.document(file.read_text(encoding="utf-8")))), encoding="utf-8")
    with ExitStack() as stack:
        exporter = stack.enter_context(exporting(shown))
        hooks = stack.enter_context(alertmanager.webhooks())
        routes = alertmanager.configuration(hooks.url("oncall"))
        manager = stack.enter_context(alertmanager.serve(routes, folder / "alertmanager"))
        setup = configuration(exporter, manager.address, impatient)
        began = time.time()
        stack.enter_context(prometheus.configured(setup, folder / "prometheus"))
        return {alert.name: arrival(hooks, alert.name) - began for alert, _, _ in shown}


def arrival(hooks: alertmanager.Webhooks, name: str) -> float:
    def is_it(delivery: alertmanager.Delivery) -> bool:
        named = any(one["labels"]["alertname"] == name for one in delivery.alerts)
        return delivery.status == "firing" and named

    return hooks.wait(is_it, DELIVERY_S, f"delivery of {name}").at


def hurried(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same rules with every `for` cut: what is tried is the way of the alert, its patience is promtool's part."""
    copy: dict[str, Any] = json.loads(json.dumps(content))
    for group in copy["groups"]:
        group.pop("interval", None)
    for rule in rules.alerting(copy):
        rule["for"] = HOLD
    return copy


def configuration(exporter: str, manager: str, file: Path) -> dict[str, Any]:
    interval = f"{round(INTERVAL_S * 1000)}ms"
    scrape = {"job_name": "model", "honor_labels": True, "static_configs": [{"targets": [exporter]}]}
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(file)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
        "scrape_configs": [scrape],
    }


@contextmanager
def exporting(shown: Sequence[tuple[Alert, Signal, float]]) -> Iterator[str]:
    """A /metrics page that shows each alert's signal at its level, counters growing; its address."""
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(shown, time.monotonic() - began).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # a line for each scrape would be noise

    with ThreadingHTTPServer((process.LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"{process.LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def page(shown: Sequence[tuple[Alert, Signal, float]], elapsed_s: float) -> str:
    lines = [
        f"{simulation.named(alert, one)} {one.level * elapsed_s if one.counter else one.level:.6f}"
        for alert, signal, level in shown
        for one in signal(level)
    ]
    return "\n".join(dict.fromkeys(lines)) + "\n"
