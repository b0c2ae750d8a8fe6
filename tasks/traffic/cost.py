"""What a request rate costs: the same load on instances of different sizes, and the price of each.

An instance of n cores is n replicas and their Envoy kept to n cores (CPU affinity, as `taskset` sets it). Its price is
the machine's own (`machine.price_per_hour`, by its share of the cores) where one is set, else that of `prices`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.services import envoy, open_load, upstream
from tasks.services.envoy_config import Route

CORES = {"1core": 1, "2core": 2}
CLUSTER = "v1"
Instance = Literal["1core", "2core"]


class Price(api.Params):
    usd_per_hour: float = Field(gt=0)
    listed: str  # the instance type, place and date of the price list


class Params(api.Params):
    qps: float = Field(default=250.0, gt=0)  # what "fixed" means
    layers: int = Field(default=200, ge=1)  # of the served network: the processor time of a request
    seconds: float = Field(default=10.0, gt=0)
    warm_s: float = Field(default=1.0, gt=0)
    prices: dict[Instance, Price] = Field(default_factory=dict)


class Point(api.Params):
    instance: Instance = "1core"
    qps: Literal["fixed"] = "fixed"


METRICS = {
    "achieved_qps": "requests answered with 200 while the load lasted, per second",
    "cpu_pct": "processor time that the servers and Envoy used, of what the instance's cores have",
    "latency_p99_ms": "99th percentile of the latency of answered requests, from the moment they were due",
    "usd_per_qps": "price of an hour of the instance for each request per second that it answered",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(
            backend="CPU affinity", stand_in_for="instance types", environment="traffic", binaries=("setpriv",),
            settings=("machine",),
        )
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    for point in ctx.points:
        measure(params, point, ctx)


def measure(params: Params, point: Point, ctx: api.Context) -> None:
    machine = sorted(os.sched_getaffinity(0))
    cores = machine[: CORES[point.instance]]
    if len(cores) < CORES[point.instance]:
        raise api.UserError(f"an instance of {point.instance} does not fit on {len(machine)} core")
    price, source = priced(params, point, len(machine), ctx)
    with ExitStack() as stack:
        target, pids = stack.enter_context(instance(cores, params, ctx))
        offer(target, params.qps, params.warm_s, ctx)
        before, began = processor_s(pids), time.monotonic()
        answers = offer(target, params.qps, params.seconds, ctx)
        used, lasted = processor_s(pids) - before, time.monotonic() - began
    latency, achieved = answers.latency_ms(), answers.achieved_qps(params.seconds)
    ctx.record(
        point,
        {
            "achieved_qps": achieved, "cpu_pct": 100 * used / (len(cores) * lasted),
            "latency_p99_ms": latency.p99, "usd_per_qps": price / achieved,
        },
        {"latency_p99_ms": latency},
        f"{params.qps:g} QPS on core {', '.join(map(str, cores))} of {len(machine)}; ${price:g} an hour: {source}",
    )  # fmt: skip


def priced(params: Params, point: Point, machine_cores: int, ctx: api.Context) -> tuple[float, str]:
    """Dollars an hour, and where the price is from."""
    own = float(ctx.settings["machine"]["price_per_hour"])
    if own > 0:
        share = CORES[point.instance] / machine_cores
        return own * share, f"{share:.0%} of machine.price_per_hour"
    if point.instance not in params.prices:
        raise api.UserError(
            f"there is no price for {point.instance}",
            where="params.prices",
            remedy="list one there, or set machine.price_per_hour",
        )
    listed = params.prices[point.instance]
    return listed.usd_per_hour, listed.listed


@contextmanager
def instance(cores: Sequence[int], params: Params, ctx: api.Context) -> Iterator[tuple[open_load.Target, list[int]]]:
    """A server for each of `cores` behind one Envoy, all kept to them; what to ask, and the process ids."""
    with ExitStack() as stack:
        with kept_to(cores):
            servers = [
                stack.enter_context(upstream.serve("v1", params.layers, ctx.out / f"server-{core}.log"))
                for core in cores
            ]
            clusters = {CLUSTER: [server.port for server in servers]}
            proxy = stack.enter_context(envoy.serve(clusters, Route({CLUSTER: 100}), ctx.scratch / "envoy"))
        yield upstream.target(proxy.address), [proxy.pid, *(server.pid for server in servers)]


@contextmanager
def kept_to(cores: Sequence[int]) -> Iterator[None]:
    """Processes started in the block run on these cores only; this process may use all of its own afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def offer(target: open_load.Target, qps: float, seconds: float, ctx: api.Context) -> open_load.Answers:
    out = ctx.scratch / "answers.npy"
    with open_load.load(target, [(seconds, qps)], out, ctx.seed):
        pass
    return open_load.answers(out)


def processor_s(pids: Sequence[int]) -> float:
    """Processor time in s that the processes have used, in user and system mode."""
    import psutil

    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return float(sum(one.user + one.system for one in times))
