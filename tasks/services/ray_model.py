"""The model that Ray Serve replicates: a small network in numpy with a known answer, and metrics of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

WIDTH = 256
SEED = 90


class Network:
    """`layers` dense layers of 256 float32 units with tanh: about 10 µs of processor time each."""

    def __init__(self, layers: int) -> None:
        import numpy as np

        self.layers = layers
        self.weights = np.random.default_rng(SEED).normal(0, WIDTH**-0.5, (8, WIDTH, WIDTH)).astype(np.float32)

    def answer(self, seed: int) -> str:
        """The mean output for the input drawn from `seed`, five digits: the same on every replica."""
        import numpy as np

        values = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
        for layer in range(self.layers):
            values = np.tanh(self.weights[layer % len(self.weights)] @ values)
        return f"{float(np.abs(values).mean()):.5f}"


class Model:
    """One replica. `GET /?seed=7` answers `Network.answer(7)`.

    It exposes Prometheus metrics on the first of `ports` that is free: `http_requests_total` and the process's own.
    """

    def __init__(self, layers: int, ports: Sequence[int]) -> None:
        from prometheus_client import Counter

        self.network = Network(layers)
        self.network.answer(0)
        self.requests = Counter("http_requests", "Requests answered by this replica")
        self.metrics = expose(ports)

    async def __call__(self, request: Any) -> Any:
        from starlette.responses import PlainTextResponse

        answer = self.network.answer(int(request.query_params["seed"]))
        self.requests.inc()
        return PlainTextResponse(answer)


def expose(ports: Sequence[int]) -> int:
    """Serve this process's metrics on the first free port of `ports`; returns it."""
    from prometheus_client import start_http_server

    for port in ports:
        try:
            start_http_server(port, addr="127.0.0.1")
        except OSError:
            continue  # another replica has it
        return port
    raise OSError(f"process {os.getpid()}: no free metrics port in {list(ports)}")
