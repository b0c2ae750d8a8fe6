"""Kind `llm_soak`: a steady load on vLLM for long: does the tail drift, do requests fail, does the memory grow?

Open loop; a short completion for each request. The duration is scaled to the machine (`scale`), and the row says how
long it really was. The memory is that of the server's whole process tree, twice a second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import Field

from tasks import api
from tasks.llm import agreement
from tasks.models import lm
from tasks.services import open_load, resident
from tasks.services.llm import vllm
from tasks.services.llm.endpoint import Endpoint

PARTS = 3  # the drift is the last part's tail less the first one's

METRICS = {
    "soaked_s": "how long the load really lasted",
    "achieved_qps": "requests answered per second of the load",
    "latency_p50_ms": "median latency of answered requests, from the moment they were due",
    "latency_p99_ms": "99th percentile of the same",
    "latency_p99_drift_ms": "99th percentile in the last third of the load less that in the first third",
    "error_rate_pct": "requests without a good answer",
    "rss_slope_mib_h": "slope of the server's resident memory over the load, in MiB for each hour",
}


class Params(api.Params):
    """`scale` 1 is the point's full duration; `warm_s` of the same load go before it."""

    scale: float = Field(default=1.0, gt=0, le=1)
    warm_s: float = Field(default=10.0, gt=0)
    max_tokens: int = Field(default=4, ge=1)
    max_model_len: int = Field(default=256, ge=64)
    max_num_seqs: int = Field(default=64, ge=1)
    kv_gb: float = Field(default=0.03, gt=0)  # on a CPU: small, so that the warm-up touches all of it


class Point(api.Params):
    duration_min: int = Field(default=30, gt=0)
    qps: int = Field(default=50, gt=0)


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="vLLM", environment="serving", memory_gb=4, binaries=("setpriv",), settings=("model",))]


def run(params: Params, ctx: api.Context) -> None:
    import torch

    folder, gpu = lm.home(ctx.settings, ctx.seed, ctx.say), torch.cuda.is_available()
    options = vllm.Options(
        max_model_len=params.max_model_len, kv_gb=None if gpu else params.kv_gb, max_num_seqs=params.max_num_seqs,
        gpu=gpu,
    )  # fmt: skip
    with vllm.serve(folder, options, ctx.scratch / "vllm", ctx.say) as server:
        agreement.require(server, folder, ctx.seed)
        for point in ctx.points:
            soak(params, point, server, ctx)


def target(server: Endpoint, max_tokens: int) -> open_load.Target:
    """A completion whose prompt differs with each request."""
    body = {
        "model": server.model, "prompt": "What is {seed} plus 7?", "max_tokens": max_tokens, "temperature": 0,
        "ignore_eos": True,
    }  # fmt: skip
    return open_load.Target(f"{server.address}/v1/completions", json.dumps(body), {"Content-Type": "application/json"})


def soak(params: Params, point: Point, server: Endpoint, ctx: api.Context) -> None:
    seconds, asked = 60 * point.duration_min * params.scale, target(server, params.max_tokens)
    ctx.say(f"{point.qps} requests/s for {seconds:g} s, after {params.warm_s:g} s of warm-up")
    with open_load.load(asked, [(params.warm_s, point.qps)], ctx.scratch / "warm.npy", ctx.seed + 1):
        pass
    out = ctx.scratch / "answers.npy"
    with resident.watched(server.pid) as memory, open_load.load(asked, [(seconds, point.qps)], out, ctx.seed):
        pass
    answers = open_load.answers(out)
    latency = answers.latency_ms()
    first, last = (
        answers.between(seconds * part / PARTS, seconds * (part + 1) / PARTS).latency_ms() for part in (0, PARTS - 1)
    )
    growth, error = resident.slope(memory)
    resident.save(memory, ctx.out / "memory.csv")
    ctx.record(
        point,
        {
            "soaked_s": seconds, "achieved_qps": answers.achieved_qps(seconds), "latency_p50_ms": latency.p50,
            "latency_p99_ms": latency.p99, "latency_p99_drift_ms": last.p99 - first.p99,
            "error_rate_pct": answers.error_pct(), "rss_slope_mib_h": growth,
        },
        {"latency_p99_ms": latency},
        f"{seconds:g} s in place of {point.duration_min} min (scale {params.scale:g}), {len(answers.status)} requests;"
        f" standard error of the slope {error:.1f} MiB/h",
    )  # fmt: skip
