"""1, 4 and 8 instances of the network at the same time, the plugin's cache on: throughput, and any wrong answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import Field

from tasks import api
from tasks.plugins import contract
from tasks.services import timing

FRAMES, FIRST_ROUNDS = 16, 20


class Params(contract.Params):
    op: contract.Op = "mish"
    shape: list[int] = Field(default=[8, 8192])
    seconds: float = 3.0


class Point(api.Params):
    instances: int = 1


METRICS: Mapping[str, str] = {
    "throughput_rps": "requests per second of all instances together",
    "mismatches": "answers that are not bit by bit those of a single instance, first frames included",
    "latency_p99_ms": "99th percentile of a request's latency, milliseconds",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return contract.needs(params)


def run(params: Params, ctx: api.Context) -> None:
    backend = contract.start(params, ctx)
    network = contract.Network(params.op, "plugin", tuple(params.shape), cached=True)
    inputs = contract.frames(params.shape, FRAMES, ctx.seed)
    alone = backend.session(network)
    answers = [alone.infer(one).copy() for one in inputs]
    contract.checked(params.op, inputs[0], answers[0], f"plugin {params.op}")
    for point in ctx.points:
        wrong = sum(together(backend, network, point.instances, inputs, answers) for _ in range(FIRST_ROUNDS))
        sessions = opened(backend, network, point.instances)
        for session in sessions:
            session.infer(inputs[0])
        began = time.perf_counter()
        with ThreadPoolExecutor(len(sessions)) as pool:
            until = began + params.seconds
            results = list(pool.map(lambda one: loop(one, inputs, answers, until), sessions))
        seconds = time.perf_counter() - began
        latency = timing.spread([one for samples, _ in results for one in samples])
        wrong += sum(count for _, count in results)
        metrics = {"throughput_rps": latency.n / seconds, "mismatches": wrong, "latency_p99_ms": latency.p99}
        ctx.record(point, metrics, {"latency_p99_ms": latency}, f"{latency.n} answers compared")


def opened(backend: contract.Backend, network: contract.Network, instances: int) -> list[contract.Session]:
    """Sessions of one compiled network: they share the plugin's node."""
    first = backend.session(network, instances)
    return [first, *(first.another() for _ in range(instances - 1))]


def together(
    backend: contract.Backend, network: contract.Network, instances: int, inputs: Sequence[Any], answers: Sequence[Any]
) -> int:
    """Mismatches when all instances send their first frame at the same moment: then the cache is being filled."""
    import numpy

    sessions = opened(backend, network, instances)
    gate = threading.Barrier(instances)

    def first(index: int) -> bool:
        gate.wait()
        return not numpy.array_equal(sessions[index].infer(inputs[index]), answers[index])

    with ThreadPoolExecutor(instances) as pool:
        return sum(pool.map(first, range(instances)))


def loop(
    session: contract.Session, inputs: Sequence[Any], answers: Sequence[Any], until: float
) -> tuple[list[float], int]:
    """Milliseconds of each request until the clock says `until`, and how many answers were wrong."""
    import numpy

    samples: list[float] = []
    wrong = 0
    while time.perf_counter() < until:
        index = len(samples) % len(inputs)
        began = time.perf_counter()
        answer = session.infer(inputs[index])
        samples.append((time.perf_counter() - began) * 1000)
        wrong += not numpy.array_equal(answer, answers[index])
    return samples, wrong
