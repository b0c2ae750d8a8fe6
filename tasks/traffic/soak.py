"""A long steady load on a real Triton: does it keep its rate and its latency, and does its memory grow?

Open-loop load over HTTP. Memory is the resident set of tritonserver and all its stubs, once a second; its growth is
the slope of a least-squares line, as a leak shows long before the memory is used up. A short soak can only show a
fast leak: the note gives the slope's standard error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.request import Request, urlopen

from pydantic import Field

from tasks import api
from tasks.services import model_repository, open_load, resident, triton

TRITON = "Triton"
MODEL = Path(__file__).with_name("soak_model.py")
CONFIG = """name: "network"
backend: "python"
max_batch_size: 64
dynamic_batching { }
input [{ name: "SEED", data_type: TYPE_INT32, dims: [1] }]
output [{ name: "MEAN", data_type: TYPE_FP32, dims: [1] }]
instance_group [{ count: 1, kind: KIND_CPU }]
"""
BODY = '{"inputs": [{"name": "SEED", "shape": [1, 1], "datatype": "INT32", "data": [{seed}]}]}'


class Params(api.Params):
    seconds: float = Field(default=40.0, ge=10)  # what "long" means; hours on a machine of your own
    warm_s: float = Field(default=5.0, gt=0)  # of the same load before: pools and arenas have grown by then


class Point(api.Params):
    qps: int = Field(default=1000, gt=0)
    duration: Literal["long"] = "long"


METRICS = {
    "achieved_qps": "requests answered per second of the load",
    "latency_p99_ms": "99th percentile of the latency of answered requests, from the moment they were due",
    "error_rate_pct": "requests without a good answer",
    "rss_growth_mb_h": "slope of the server's resident memory over the load, in MB for each hour",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend=TRITON, environment="triton", binaries=("setpriv",), memory_gb=1)]


def run(params: Params, ctx: api.Context) -> None:
    model_repository.add_model(ctx.scratch / "models", "network", CONFIG, source=MODEL)
    with triton.serve(ctx.scratch / "models", ctx.out / "triton.log") as server:
        target = open_load.Target(f"http://{server.http}/v2/models/network/infer", BODY)
        verify(target)
        for point in ctx.points:
            offer(target, [(params.warm_s, point.qps)], server.pid, ctx)
            soak(params, point, target, server.pid, ctx)


def verify(target: open_load.Target) -> None:
    """One answer against the same network computed here."""
    import numpy as np

    from tasks.traffic.soak_model import Network

    with urlopen(Request(target.url, data=target.body.replace("{seed}", "7").encode()), timeout=20) as answer:
        served = json.load(answer)["outputs"][0]["data"][0]
    expected = float(Network().means(np.array([7]))[0])
    if abs(served - expected) > 1e-5:
        raise api.UserError(f"the model answers {served} where {expected} is right")


def soak(params: Params, point: Point, target: open_load.Target, pid: int, ctx: api.Context) -> None:
    answers, memory = offer(target, [(params.seconds, point.qps)], pid, ctx)
    latency = answers.latency_ms()
    growth, error = resident.slope(memory)
    resident.save(memory, ctx.out / "memory.csv")
    ctx.record(
        point,
        {
            "achieved_qps": answers.achieved_qps(params.seconds), "latency_p99_ms": latency.p99,
            "error_rate_pct": answers.error_pct(), "rss_growth_mb_h": growth,
        },
        {"latency_p99_ms": latency},
        f"{params.seconds:g} s, {len(answers.status)} requests; standard error of the growth {error:.1f} MB/h",
    )  # fmt: skip


def offer(
    target: open_load.Target, phases: Sequence[tuple[float, float]], pid: int, ctx: api.Context
) -> tuple[open_load.Answers, list[tuple[float, float]]]:
    """The load's answers, and the server's memory as (s, MB) while it lasted."""
    out = ctx.scratch / "answers.npy"
    with resident.watched(pid) as memory, open_load.load(target, phases, out, ctx.seed):
        pass
    return open_load.answers(out), memory
