"""One server of the small network over HTTP; `upstream` starts it. It needs aiohttp, numpy and prometheus_client.

`GET /infer?seed=7` answers the network's mean for that seed, with the header `x-version`; `/health` names the version;
`/metrics` has `http_requests_total` and the histogram `http_request_duration_seconds`, of this process alone.
The network is computed in the event loop: one request at a time, those that wait stand in the kernel's queues.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from tasks.services.process import LOOPBACK
from tasks.services.ray_model import Network

BACKLOG = 4096  # connections that wait for their turn; beyond it the kernel would refuse them
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


def application(version: str, layers: int) -> Any:
    from aiohttp import web
    from prometheus_client import Counter, Histogram, generate_latest

    network = Network(layers)
    requests = Counter("http_requests", "Requests answered by this server")
    duration = Histogram("http_request_duration_seconds", "Time of a request in this server", buckets=BUCKETS)

    async def infer(request: Any) -> Any:
        began = time.perf_counter()
        answer = network.answer(int(request.query["seed"]))
        duration.observe(time.perf_counter() - began)
        requests.inc()
        return web.Response(text=answer, headers={"x-version": version})

    async def health(request: Any) -> Any:
        return web.json_response({"version": version, "layers": layers})

    async def metrics(request: Any) -> Any:
        return web.Response(body=generate_latest(), content_type="text/plain")

    app = web.Application()
    app.add_routes([web.get("/infer", infer), web.get("/health", health), web.get("/metrics", metrics)])
    return app


def main() -> None:
    import uvloop
    from aiohttp import web

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", default="v1")
    parser.add_argument("--layers", type=int, default=100)
    given = parser.parse_args()
    app = application(given.version, given.layers)
    loop = uvloop.new_event_loop()
    web.run_app(app, host=LOOPBACK, port=given.port, loop=loop, backlog=BACKLOG, access_log=None, print=None)


if __name__ == "__main__":
    main()
