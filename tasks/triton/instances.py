"""Kind `triton_instances`: throughput of one model by the number of its instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.api import Context, Needs
from tasks.api import Params as Base
from tasks.services import perf_analyzer
from tasks.triton import config as pbtxt
from tasks.triton import pair
from tasks.triton.pair import A

METRICS = {
    "throughput_rps": "requests per second answered",
    "latency_p50_ms": "median latency of a request",
    "latency_p99_ms": "99th percentile of the same latencies",
    "cpu_pct": "CPU time of the server and its instances over the time of the load; 100 is one core",
}


class Params(pair.Pair):
    concurrency: int = 8


class Point(Base):
    instances: int = 1


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton", environment="triton")]


def run(params: Params, ctx: Context) -> None:
    """For each point a fresh server on the file with that many instances of each model; model_a is loaded."""
    for number, point in enumerate(ctx.points):

        def scale(name: str, model: Any, count: int = point.instances) -> Any:
            return pbtxt.with_instances(model, count) if name == A else model

        file, log = ctx.day / params.config, ctx.out / "triton.log"
        folder = ctx.scratch / f"instances-{point.instances}"
        ctx.say(f"starting Triton with {point.instances} instances")
        with pair.serve(params, file, ctx, log, folder=folder, change=scale) as served:
            before = cpu_seconds(served.pid)
            plan = served.plan(A, ctx.seed + number, params.concurrency, params.window_ms)
            load = perf_analyzer.measure(plan, served.grpc)
            used = cpu_seconds(served.pid) - before
        metrics = {
            "throughput_rps": load.throughput_rps,
            "latency_p50_ms": load.latency.p50,
            "latency_p99_ms": load.latency.p99,
            "cpu_pct": used / load.seconds * 100,
        }
        ctx.record(point, metrics, {"latency_p50_ms": load.latency}, load.note)


def cpu_seconds(pid: int) -> float:
    """CPU time so far of a process and its children: the server and one stub for each instance."""
    import psutil

    server = psutil.Process(pid)
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(time.user + time.system for time in times)
