"""Kind `dispatch_batching`: dynamic batching with several delays, the learner's and Triton's, against none at all.

Both serve the same network, and the network counts its own batches. First each server shows what it can do one by one,
a few connections asking again when answered; then, batching, every point gets twice the rate that it managed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.request import Request, urlopen

from pydantic import Field

from tasks import api
from tasks.dispatching import server, shared
from tasks.services import burst, model_repository, process, triton

ALONE_CONNECTIONS = 16
CONFIG = """name: "network"
backend: "python"
max_batch_size: {batch_limit}
{batching}
input [{{ name: "TOKEN", data_type: TYPE_INT32, dims: [1] }}]
output [{{ name: "NUMBER", data_type: TYPE_FP32, dims: [1] }}]
instance_group [{{ count: 1, kind: KIND_CPU }}]
"""
BATCHING = """dynamic_batching {{
  max_queue_delay_microseconds: {delay_us}
  default_queue_policy {{ max_queue_size: {queue_limit} }}
}}"""
BODY = (
    '{"id": "{number}", "inputs": [{"name": "TOKEN", "shape": [1, 1], "datatype": "INT32", "data": [{token}]}],'
    ' "outputs": [{"name": "NUMBER"}]}'
)
PATTERN = r'"data":\[(-?[\d.]+(?:e-?\d+)?)\]'

METRICS = {
    **burst.SHARES,
    "mean_batch": "requests in an execution of the model on average, as the model itself counted",
    "throughput_rps": "requests answered with 200 within the seconds of the load, per second",
    "latency_p99_ms": "99th percentile of the latency of answered requests, from the moment they were due",
    "latency_p50_ms": "median of the same",
    "unbatched_rps": "requests answered per second without batching, when there is always work",
    "gain": "throughput of this point over that without batching; at most `over`, as no more is offered",
    "offered_qps": "requests that were due, per second",
}


class Params(shared.Served):
    queue_limit: int = Field(default=256, ge=1)
    batch_limit: int = Field(default=32, ge=2)
    over: float = Field(default=2.0, gt=1)  # offered, in times of what is done without batching


class Point(api.Params):
    server: Literal["demo", "triton"] = "demo"
    max_delay_ms: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Running:
    target: burst.Target
    batches: Path


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs("asyncio server and Triton", environment="triton", binaries=("setpriv",), memory_gb=1)]


def run(params: Params, ctx: api.Context) -> None:
    shared.more_files(params.connections + 256)
    for which in dict.fromkeys(point.server for point in ctx.points):
        with started(which, 1, 0, params, ctx) as alone:
            offered(alone, 1, 200, ctx.seed + 1, params, ctx)
            unbatched = shared.capacity_qps(alone.target, ALONE_CONNECTIONS, ctx.backend, params, ctx)
        ctx.say(f"{which} without batching: {unbatched:.0f} requests/s")
        for point in ctx.points:
            if point.server == which:
                measure(params, point, unbatched, ctx)


def measure(params: Params, point: Point, unbatched: float, ctx: api.Context) -> None:
    qps = params.over * unbatched
    with started(point.server, params.batch_limit, point.max_delay_ms, params, ctx) as one:
        offered(one, 1, 200, ctx.seed + 1, params, ctx)
        warm = len(server.batch_sizes(one.batches))
        answers = offered(one, params.seconds, qps, ctx.seed + 2, params, ctx)
        batches = server.batch_sizes(one.batches)[warm:]
    latency, rate = answers.latency_ms(), answers.achieved_qps(params.seconds)
    ctx.record(
        point,
        {
            "mean_batch": sum(batches) / len(batches), "throughput_rps": rate, "latency_p99_ms": latency.p99,
            "latency_p50_ms": latency.p50, "unbatched_rps": unbatched, "gain": rate / unbatched,
            **answers.shares(), "offered_qps": len(answers.due) / params.seconds,
        },
        {"latency_p99_ms": latency},
        f"largest batch {max(batches)} of {params.batch_limit}",
    )  # fmt: skip


def offered(one: Running, seconds: float, qps: float, seed: int, params: Params, ctx: api.Context) -> burst.Answers:
    answers = burst.offer(
        one.target, seconds, qps, ctx.scratch / "answers.npy", seed, connections=params.connections,
        timeout_s=params.timeout_s,
    )  # fmt: skip
    return shared.right(answers, params.layers, ctx.backend)


@contextmanager
def started(which: str, batch_limit: int, delay_ms: int, params: Params, ctx: api.Context) -> Iterator[Running]:
    """The learner's server or Triton on the same network, with a queue of the same length."""
    if which == "demo":
        queue = server.Queue(params.queue_limit, batch_limit, delay_ms, params.layers)
        with server.serve(ctx.day / params.file, queue, ctx.scratch, ctx.out / "server.log") as one:
            yield Running(one.target(), one.batches)
        return
    folder = ctx.scratch / f"models-{batch_limit}-{delay_ms}"
    batching = BATCHING.format(delay_us=1000 * delay_ms, queue_limit=params.queue_limit) if batch_limit > 1 else ""
    config = CONFIG.format(batch_limit=batch_limit, batching=batching)
    model_repository.add_model(folder, "network", config, source=server.MODEL)
    batches = folder / "batches.log"
    os.environ |= {"BATCH_LOG": str(batches), "NETWORK_LAYERS": str(params.layers), "OPENBLAS_NUM_THREADS": "1"}
    with triton.serve(folder, ctx.out / "triton.log") as served:
        port = int(served.http.rsplit(":", 1)[1])
        target = burst.Target(port, "/v2/models/network/infer", BODY, PATTERN, server.tokens())
        first(target)
        yield Running(target, batches)


def first(target: burst.Target) -> None:
    """The very first inference can take seconds on a busy machine: it is no part of a load."""
    body = target.body.replace("{number}", "1").replace("{token}", "3").encode()
    asked = Request(f"http://{process.LOOPBACK}:{target.port}{target.path}", body, {"Content-Type": "application/json"})
    with urlopen(asked, timeout=60) as answer:
        answer.read()
