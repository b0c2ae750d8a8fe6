"""A /metrics page of this process's own registry on a free loopback port, for a real Prometheus to scrape."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tasks.services import process


@contextmanager
def expose(registry: Any) -> Iterator[str]:
    """Serve a prometheus_client registry (OpenMetrics with exemplars for who asks for it); yields `127.0.0.1:port`."""
    from prometheus_client import start_http_server

    server, thread = start_http_server(0, process.LOOPBACK, registry)
    try:
        yield f"{process.LOOPBACK}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
