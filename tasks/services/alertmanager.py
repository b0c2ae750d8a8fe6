"""A real Alertmanager on a free loopback port, and webhook receivers that keep what it delivers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import process


@dataclass(frozen=True)
class Delivery:
    """One webhook call. `at` is its unix time in s, `receiver` the path that it was sent to, without the slash."""

    at: float
    receiver: str
    payload: Mapping[str, Any]  # Alertmanager's webhook format, version 4

    @property
    def status(self) -> str:
        """`firing` or `resolved`."""
        return str(self.payload["status"])

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return list(self.payload["alerts"])


@dataclass(frozen=True)
class Webhooks:
    """Receivers behind one address: every path is a receiver of its own, and all calls are kept in order."""

    address: str
    _kept: list[Delivery] = field(default_factory=list)
    _arrival: threading.Condition = field(default_factory=threading.Condition)

    def url(self, receiver: str) -> str:
        return f"http://{self.address}/{receiver}"

    def add(self, delivery: Delivery) -> None:
        with self._arrival:
            self._kept.append(delivery)
            self._arrival.notify_all()

    def deliveries(self) -> list[Delivery]:
        with self._arrival:
            return list(self._kept)

    def wait(self, wanted: Callable[[Delivery], bool], timeout_s: float, what: str = "delivery") -> Delivery:
        """The first delivery that is `wanted`, past ones included; UserError when none comes in time."""
        with self._arrival:
            self._arrival.wait_for(lambda: any(map(wanted, self._kept)), timeout_s)
            found = next(filter(wanted, self._kept), None)
        if found is None:
            raise UserError(f"no {what} reached the webhook within {timeout_s:g} s")
        return found


@contextmanager
def webhooks() -> Iterator[Webhooks]:
    """Receivers on a free port until the block ends; each call is answered 200 and kept with its time."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            at = time.time()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            kept.add(Delivery(at, self.path.strip("/"), json.loads(body)))

        def log_message(self, format: str, *args: Any) -> None:
            pass  # the deliveries are the log

    with ThreadingHTTPServer((process.LOOPBACK, 0), Handler) as server:
        kept = Webhooks(f"{process.LOOPBACK}:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Alertmanager:
    """An Alertmanager that is ready. `address` is `127.0.0.1:port`: Prometheus's `alertmanagers` targets."""

    address: str
    pid: int

    def post(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Hand it alerts as Prometheus does: each `{labels, annotations?, startsAt?, endsAt?}` (times in RFC 3339)."""
        headers = {"Content-Type": "application/json"}
        request = Request(f"http://{self.address}/api/v2/alerts", json.dumps(list(alerts)).encode(), headers)
        with urlopen(request, timeout=10):
            pass

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that it holds now, each with its receivers and its state."""
        with urlopen(f"http://{self.address}/api/v2/alerts", timeout=10) as answer:
            return list(json.load(answer))


@contextmanager
def serve(configuration: Path | Mapping[str, Any], folder: Path) -> Iterator[Alertmanager]:
    """Run Alertmanager on a configuration file, or on the same as data, until the block ends; data and log in `folder`.

    Raises UserError with Alertmanager's own message when it refuses the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(configuration, Path):
        file = configuration
    else:
        file = folder / "alertmanager.yml"
        file.write_text(json.dumps(configuration), encoding="utf-8")  # JSON is YAML
    address = f"{process.LOOPBACK}:{process.free_port()}"
    argv = [
        "prometheus-alertmanager", f"--config.file={file}", f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}", "--cluster.listen-address=", "--log.level=warn",
    ]  # fmt: skip
    with process.serve(argv, log=folder / "alertmanager.log", ready=lambda: is_ready(address)) as child:
        yield Alertmanager(address, child.pid)


def is_ready(address: str) -> bool:
    with urlopen(f"http://{address}/-/ready", timeout=2) as answer:
        return bool(answer.status == 200)


def configuration(webhook_url: str, *, group_wait: str = "0s", group_interval: str = "1s") -> dict[str, Any]:
    """Everything to one webhook, resolved alerts too, each alert a group of its own; quick, for experiments."""
    route = {
        "receiver": "webhook", "group_by": ["..."], "group_wait": group_wait,
        "group_interval": group_interval, "repeat_interval": "1h",
    }  # fmt: skip
    receivers = [{"name": "webhook", "webhook_configs": [{"url": webhook_url, "send_resolved": True}]}]
    return {"route": route, "receivers": receivers}
