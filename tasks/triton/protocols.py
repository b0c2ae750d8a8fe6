"""Kind `triton_protocols`: the same load over HTTP and over gRPC; what each costs the client and the server."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.services import perf_analyzer
from tasks.triton import learner_client, repository
from tasks.triton.client import max_abs_error
from tasks.triton.repository import Served
from tasks.triton.usage import cpu_seconds

METRICS = {
    "latency_p50_ms": "median latency of a request",
    "latency_p99_ms": "99th percentile of the same latencies",
    "throughput_rps": "requests per second answered",
    "cpu_pct": "CPU of the server and its instances: their time for one request times the throughput; 100 is one core",
    "client_cpu_pct": "CPU of perf_analyzer, likewise: its time for one request times the throughput",
    "server_cpu_ms": "CPU time of the server and its instances for one request",
    "max_abs_error": "largest difference of the learner's client's answer from ONNX Runtime, over this protocol",
}
CHECKED = 8  # images that the learner's client asks for before the load


class Params(repository.Source):
    config: str = ""
    client: str = "client_infer.py"
    window_ms: int = 400


class Point(Base):
    protocol: Literal["http", "grpc"] = "http"
    concurrency: int = 64


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton", environment="triton")]


def run(params: Params, ctx: Context) -> None:
    """One server; for each protocol the learner's client must be right before perf_analyzer loads it."""
    ctx.say("starting Triton")
    with repository.serve(params, ctx, ctx.out / "triton.log") as served:
        errors = {protocol: prove(served, protocol, params, ctx) for protocol in {each.protocol for each in ctx.points}}
        for number, point in enumerate(ctx.points):
            measure(point, params, ctx, served, ctx.seed + number, errors[point.protocol])


def address(served: Served, protocol: str) -> str:
    return served.server.http if protocol == "http" else served.server.grpc


def prove(served: Served, protocol: Literal["http", "grpc"], params: Params, ctx: Context) -> float:
    """The largest error of the learner's client over `protocol`; UserError when it fails or answers something else."""
    images = repository.random_inputs(served.model, ctx.seed, CHECKED)
    file, url = ctx.day / params.client, address(served, protocol)
    answer = learner_client.ask(file, protocol, url, params.model, images, ctx.scratch)
    if answer.status != 0:
        raise UserError(f"over {protocol} it ended with {answer.status}: {answer.said}", where=params.client)
    expected = served.references[served.version](images)
    return max_abs_error(answer.array, expected, f"{params.client} over {protocol}", params.tolerance)


def measure(point: Point, params: Params, ctx: Context, served: Served, seed: int, error: float) -> None:
    plan = served.plan(params.model, seed, point.concurrency, params.window_ms)
    server, client, answered = cpu_seconds(served.pid), children_cpu_s(), requests(served)
    load = perf_analyzer.measure(replace(plan, protocol=point.protocol), address(served, point.protocol))
    answered = requests(served) - answered
    server_ms = (cpu_seconds(served.pid) - server) * 1000 / answered
    client_ms = (children_cpu_s() - client) * 1000 / answered
    metrics = {
        "latency_p50_ms": load.latency.p50,
        "latency_p99_ms": load.latency.p99,
        "throughput_rps": load.throughput_rps,
        "cpu_pct": server_ms * load.throughput_rps / 10,
        "client_cpu_pct": client_ms * load.throughput_rps / 10,
        "server_cpu_ms": server_ms,
        "max_abs_error": error,
    }
    ctx.record(point, metrics, {"latency_p50_ms": load.latency}, load.note)


def requests(served: Served) -> int:
    """How many the server has answered."""
    return served.client.times()[served.model.name].requests


def children_cpu_s() -> float:
    """CPU time of the children that have ended: perf_analyzer's, as the server is still running."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
