"""Overload with and without a rate limit: who waits, who is turned away, and how steady is the P99?

Envoy's token bucket stands in front of one server whose capacity is measured first. Without a limit an open-loop
load above the capacity makes a queue that grows as long as the load lasts; with it the excess is answered 429 at once.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import pstdev
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.services import envoy, open_load, upstream
from tasks.services.envoy import Envoy
from tasks.services.envoy_config import Route
from tasks.services.open_load import Answers

ENVOY, CLUSTER = "Envoy", "v1"
TOO_MANY = 429
OFFERED = {"0.5x": 0.5, "1x": 1.0, "2x": 2.0}


class Params(api.Params):
    layers: int = Field(default=300, ge=1)  # of the served network: the processor time of a request
    limit: float = Field(default=0.8, gt=0)  # requests let through, in capacities
    burst_s: float = Field(default=0.1, ge=0)  # of the limit's rate that may come at once
    seconds: int = Field(default=5, ge=2)  # of load for each point
    capacity_s: float = Field(default=4.0, gt=0)  # of full load that measures the capacity
    clients: int = Field(default=4, ge=1)  # that keep the server busy meanwhile


class Point(api.Params):
    rate_limit: Literal["off", "on"] = "off"
    offered_load: Literal["0.5x", "1x", "2x"] = "1x"


METRICS = {
    "latency_p99_ms": "99th percentile of the latency of answered requests, from the moment they were due",
    "latency_p99_stddev_ms": "standard deviation of that percentile over windows of one second",
    "rejected_pct": "requests that the limit answered with 429",
    "throughput_rps": "requests answered with 200 while the load lasted, per second",
    "error_rate_pct": "requests that got neither an answer nor a 429",
    "offered_rps": "requests sent per second",
    "capacity_rps": "what the server answers per second when it never waits for work",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend=ENVOY, environment="traffic", binaries=("setpriv",))]


def run(params: Params, ctx: api.Context) -> None:
    with serving(params, ctx) as proxy:
        capacity = saturated(proxy.address, params)
    ctx.say(f"the capacity is {capacity:.0f} requests/s")
    for point in ctx.points:
        with serving(params, ctx) as proxy:  # a fresh server: an overload leaves a queue behind
            measure(params, point, proxy, capacity, ctx)


@contextmanager
def serving(params: Params, ctx: api.Context) -> Iterator[Envoy]:
    """One server behind an Envoy that limits nothing yet."""
    with ExitStack() as stack:
        served = stack.enter_context(upstream.serve("v1", params.layers, ctx.out / "server.log"))
        proxy = stack.enter_context(envoy.serve({CLUSTER: [served.port]}, Route({CLUSTER: 100}), ctx.scratch / "envoy"))
        upstream.verify(proxy.address, {"v1": params.layers})
        yield proxy


def saturated(address: str, params: Params) -> float:
    """Requests per second that `clients` get answered which ask again as soon as they are answered."""
    answered = [0] * params.clients
    deadline = time.monotonic() + params.capacity_s
    threads = [threading.Thread(target=ask, args=(address, deadline, answered, n)) for n in range(params.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not sum(answered):
        raise api.UserError(f"{address} answered nothing in {params.capacity_s:g} s")
    return sum(answered) / params.capacity_s


def ask(address: str, deadline: float, answered: list[int], number: int) -> None:
    connection = http.client.HTTPConnection(address, timeout=10)
    while time.monotonic() < deadline:
        connection.request("GET", f"/infer?seed={answered[number]}")
        if connection.getresponse().read():
            answered[number] += 1
    connection.close()


def measure(params: Params, point: Point, proxy: Envoy, capacity: float, ctx: api.Context) -> None:
    most, offered = params.limit * capacity, OFFERED[point.offered_load] * capacity
    limited = Route({CLUSTER: 100}, limit_rps=most, burst=max(1, round(most * params.burst_s)))
    proxy.route(limited if point.rate_limit == "on" else Route({CLUSTER: 100}))
    out = ctx.scratch / "answers.npy"
    with open_load.load(upstream.target(proxy.address), [(params.seconds, offered)], out, ctx.seed):
        pass
    answers = open_load.answers(out)
    latency = answers.latency_ms()
    rejected = answers.status == TOO_MANY
    ctx.record(
        point,
        {
            "latency_p99_ms": latency.p99, "latency_p99_stddev_ms": unsteadiness(answers, params.seconds),
            "rejected_pct": float(100 * rejected.mean()), "throughput_rps": answers.achieved_qps(params.seconds),
            "error_rate_pct": float(100 * ((answers.status != 200) & ~rejected).mean()),
            "offered_rps": len(answers.status) / params.seconds, "capacity_rps": capacity,
        },
        {"latency_p99_ms": latency},
        f"{len(answers.status)} requests in {params.seconds} s; the limit lets {most:.0f}/s through",
    )  # fmt: skip


def unsteadiness(answers: Answers, seconds: int) -> float:
    """Standard deviation in ms of the P99 of each second's answered requests; seconds without one are left out."""
    windows = [answers.between(start, start + 1) for start in range(seconds)]
    return pstdev(window.latency_ms().p99 for window in windows if (window.status == 200).any())
