"""A dashboard of one page: it asks Prometheus when it is asked itself, and shows what it was told.

It stands in for Grafana, which no package registry carries: what is drilled is a dashboard process that dies and
comes back, not Grafana's own start. `python -m tasks.chaos.panel_server --port P --prometheus FILE`; FILE holds
Prometheus's address, which changes when that is restarted.
"""

from __future__ import annotations

import argparse
import html
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tasks.services.process import LOOPBACK

PANELS = {
    "Requests per second": "sum(rate(http_requests_total[5s]))",
    "P99 in seconds": "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5s])))",
    "Replicas up": "sum(up)",
}


def page(prometheus: str) -> str:
    """The panels with their values now. OSError or ValueError when Prometheus cannot be asked."""
    rows = (f"<tr><td>{html.escape(name)}<td>{value(prometheus, expression)}" for name, expression in PANELS.items())
    return f"<!doctype html><title>Model</title><table>{''.join(rows)}</table>"


def value(prometheus: str, expression: str) -> str:
    with urlopen(f"http://{prometheus}/api/v1/query?{urlencode({'query': expression})}", timeout=5) as answer:
        result = json.load(answer)["data"]["result"]
    return html.escape(result[0]["value"][1]) if result else "no data"


def handler(prometheus: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = 200, "ok"
            if self.path != "/health":
                try:
                    text = page(prometheus.read_text(encoding="ascii"))
                except (URLError, OSError, ValueError) as error:
                    status, text = 502, html.escape(str(error))
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass  # a line for each look at the page would be noise

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--prometheus", type=Path, required=True)
    given = parser.parse_args()
    ThreadingHTTPServer((LOOPBACK, given.port), handler(given.prometheus)).serve_forever()


if __name__ == "__main__":
    main()
