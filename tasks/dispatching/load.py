"""Kind `dispatch_load`: thousands of requests a second offered to the learner's server; what it really answers.

Open loop: the schedule does not wait for the server, and a latency counts from when its request was due. Load and
server share the machine's cores. Every request that was due is answered, refused, lost or was never sent, and the
four shares make 100: what the generator could not send says nothing about what the server loses.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks import api
from tasks.dispatching import rates, shared
from tasks.services import burst

METRICS = {
    **burst.SHARES,
    "achieved_qps": "requests answered with 200 within the seconds of the load, per second",
    "offered_qps": "requests that were due, per second",
    "latency_p50_ms": "median latency of answered requests, from the moment they were due",
    "latency_p95_ms": "95th percentile of the same",
    "latency_p99_ms": "99th percentile of the same",
    "sent_qps": "requests that the load generator put on the wire within the seconds of the load, per second",
    "send_lag_p99_ms": "99th percentile of how late the load generator itself came to a request that was due",
    "mean_batch": "requests in an execution of the model on average, as the model itself counted",
}


class Params(rates.Params): ...


class Point(api.Params):
    qps: int = Field(default=1000, gt=0)


def needs(params: Params) -> Sequence[api.Needs]:
    return [shared.NEEDS]


def run(params: Params, ctx: api.Context) -> None:
    for number, point in enumerate(ctx.points):
        answers, batches = rates.offer(params, point.qps, ctx.seed + number, ctx)
        latency = answers.latency_ms()
        ctx.record(
            point,
            {
                "achieved_qps": answers.achieved_qps(params.seconds), "offered_qps": len(answers.due) / params.seconds,
                "sent_qps": answers.sent_qps(params.seconds), "send_lag_p99_ms": answers.lag_p99_ms(),
                "latency_p50_ms": latency.p50, "latency_p95_ms": latency.p95, "latency_p99_ms": latency.p99,
                **answers.shares(), "mean_batch": sum(batches) / len(batches),
            },
            {"latency_p99_ms": latency},
            f"every one of the {latency.n} answers is that of its own request",
        )  # fmt: skip
