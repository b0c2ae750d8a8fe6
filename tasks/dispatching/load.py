"""Kind `dispatch_load`: thousands of requests a second offered to the learner's server; what it really answers.

Open loop: the schedule does not wait for the server, and a latency counts from when its request was due. Load and
server share the machine's cores.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks import api
from tasks.dispatching import server, shared
from tasks.services import burst

METRICS = {
    "achieved_qps": "requests answered with 200 within the seconds of the load, per second",
    "offered_qps": "requests that were due, per second",
    "latency_p50_ms": "median latency of answered requests, from the moment they were due",
    "latency_p95_ms": "95th percentile of the same",
    "latency_p99_ms": "99th percentile of the same",
    "error_rate_pct": "requests with neither an answer nor a refusal: given up after the client's time-out, or failed",
    "rejected_pct": "requests refused with 429 or 503, the back-pressure of a full queue",
    "mean_batch": "requests in an execution of the model on average, as the model itself counted",
}


class Params(shared.Served):
    queue_limit: int = Field(default=256, ge=1)


class Point(api.Params):
    qps: int = Field(default=1000, gt=0)


def needs(params: Params) -> Sequence[api.Needs]:
    return [shared.NEEDS]


def run(params: Params, ctx: api.Context) -> None:
    for number, point in enumerate(ctx.points):
        answers, batches = offer(params, point.qps, ctx.seed + number, ctx)
        latency = answers.latency_ms()
        ctx.record(
            point,
            {
                "achieved_qps": answers.achieved_qps(params.seconds), "offered_qps": len(answers.due) / params.seconds,
                "latency_p50_ms": latency.p50, "latency_p95_ms": latency.p95, "latency_p99_ms": latency.p99,
                "error_rate_pct": answers.error_pct(), "rejected_pct": answers.rejected_pct(),
                "mean_batch": sum(batches) / len(batches),
            },
            {"latency_p99_ms": latency},
            f"every one of the {latency.n} answers is that of its own request",
        )  # fmt: skip


def offer(params: Params, qps: float, seed: int, ctx: api.Context) -> tuple[burst.Answers, list[int]]:
    """A fresh server under one rate after a second of warm-up: the answers, all right, and the model's batch sizes."""
    shared.more_files(params.connections + 256)
    queue = server.Queue(params.queue_limit, params.batch_limit, params.max_delay_ms, params.layers)
    ctx.say(f"offering {qps:g} requests/s for {params.seconds:g} s")
    with server.serve(ctx.day / params.file, queue, ctx.scratch, ctx.out / "server.log") as one:
        out, target = ctx.scratch / "answers.npy", one.target()
        burst.offer(target, 1, min(qps, 500), out, seed + 1000, connections=64, timeout_s=params.timeout_s)
        warm = len(one.batch_sizes())
        answers = burst.offer(
            target, params.seconds, qps, out, seed, connections=params.connections, timeout_s=params.timeout_s
        )
        batches = one.batch_sizes()[warm:]
    if max(batches) > params.batch_limit:
        raise api.UserError(f"a batch of {max(batches)} exceeds the limit {params.batch_limit}", where=params.file)
    return shared.right(answers, params.layers, params.file), batches
