"""Several instances of the network at the same time: throughput, and any wrong answer.

First the instances share a plugin whose cache is empty and send their first frames at once, again and again; then the
plugin computes without its cache and the requests are timed, each answer compared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
    plain = contract.Network(params.op, "plugin", tuple(params.shape))
    inputs = contract.frames(params.shape, FRAMES, ctx.seed)
    answers = reference(backend, plain, inputs)
    cached = replace(plain, cached=True)
    from_table = reference(backend, cached, inputs)
    for point in ctx.points:
        wrong = sum(together(opened(backend, cached, point.instances), inputs, from_table) for _ in range(FIRST_ROUNDS))
        sessions = opened(backend, plain, point.instances)
        for session in sessions:
            session.infer(inputs[0])
        began = time.perf_counter()
        with ThreadPoolExecutor(len(sessions)) as pool:
            loops = [pool.submit(loop, one, inputs, answers, began + params.seconds) for one in sessions]
            results = [one.result() for one in loops]
        seconds = time.perf_counter() - began
        latency = timing.spread([one for samples, _ in results for one in samples])
        wrong += sum(count for _, count in results)
        metrics = {"throughput_rps": latency.n / seconds, "mismatches": wrong, "latency_p99_ms": latency.p99}
        compared = latency.n + FIRST_ROUNDS * point.instances
        ctx.record(point, metrics, {"latency_p99_ms": latency}, f"{compared} answers compared")


def reference(backend: contract.Backend, network: contract.Network, inputs: Sequence[Any]) -> list[Any]:
    """One instance's answers, each near the activation in float64."""
    alone = backend.session(network)
    answers = [alone.infer(one) for one in inputs]
    for given, answer in zip(inputs, answers, strict=True):
        contract.checked(network.op, given, answer, f"plugin {network.op}")
    return answers


def opened(backend: contract.Backend, network: contract.Network, instances: int) -> list[contract.Session]:
    """Sessions of one compiled network: they share the plugin's node."""
    first = backend.session(network, instances)
    return [first, *(first.another() for _ in range(instances - 1))]


def together(sessions: Sequence[contract.Session], inputs: Sequence[Any], answers: Sequence[Any]) -> int:
    """Mismatches when all instances send their first frame at the same moment: then the cache is being filled."""
    import numpy

    gate = threading.Barrier(len(sessions))

    def first(index: int) -> bool:
        gate.wait()
        return not numpy.array_equal(sessions[index].infer(inputs[index]), answers[index])

    with ThreadPoolExecutor(len(sessions)) as pool:
        return sum(pool.map(first, range(len(sessions))))


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
