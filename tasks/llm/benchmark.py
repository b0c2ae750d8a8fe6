"""Kind `llm_benchmark`: vLLM under rising loads by `vllm bench serve`; the latency–throughput curve and its knee.

The knee is where Kleinrock's power is highest, throughput divided by response time ("Power and deterministic rules of
thumb for probabilistic problems in computer communications", ICC 1979): below it a higher load gains more throughput
than it costs latency, above it less.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

from pydantic import Field

from tasks import api
from tasks.llm import curve, serving, sweep
from tasks.services.llm import bench, figures
from tasks.services.llm.endpoint import Endpoint

CURVE = "latency_throughput.png"


class Params(serving.Served):
    prompt_tokens: int = Field(default=64, ge=1)
    output_tokens: int = Field(default=64, ge=1)
    seconds: float = Field(default=4.0, gt=0)  # of a rate's load: rate × seconds requests
    rounds: int = Field(default=4, ge=1)  # of a concurrency's load: concurrency × rounds requests
    minimum: int = Field(default=16, ge=1)  # requests of any load
    slo: Mapping[str, float] = Field(default_factory=lambda: {"ttft_ms": 500.0, "tpot_ms": 50.0})


class Point(api.Params):
    """Offered requests per second (0: all at once), how many at a time (0: no limit), and lengths (0: the Params')."""

    request_rate: float = Field(default=0.0, ge=0)
    concurrency: int = Field(default=0, ge=0)
    prompt_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)


METRICS = {
    **bench.METRICS,
    **serving.SERVER,
    "power": "Kleinrock's power: requests per second for each second of the mean response time; highest at the knee",
    "client_server_ttft_diff_pct": "how far the client's median time to the first token is above the server's",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [serving.both()]


def run(params: Params, ctx: api.Context) -> None:
    folder = serving.folder_of(params, ctx)

    def measure(server: Endpoint, point: Point) -> None:
        before = figures.metrics(server)
        result = serving.load(server, folder, ctx, **wish(params, point, ctx.seed))
        record(ctx, point, result, figures.metrics(server).since(before))

    sweep.each(ctx, ctx.points, lambda: serving.checked(params, folder, ctx), measure)
    curve.draw(ctx, ctx.out / CURVE)


def wish(params: Params, point: Point, seed: int) -> dict[str, object]:
    """The load of a point; every point has prompts of its own."""
    count = point.request_rate * params.seconds if point.request_rate else point.concurrency * params.rounds
    prompt, output = point.prompt_tokens or params.prompt_tokens, point.output_tokens or params.output_tokens
    return {
        "requests": max(params.minimum, math.ceil(count)), "request_rate": point.request_rate,
        "concurrency": point.concurrency, "prompt_tokens": prompt, "output_tokens": output, "slo": params.slo,
        "seed": seed + zlib.crc32(repr(point).encode()) % 10_000,
    }  # fmt: skip


def record(ctx: api.Context, point: Point, result: bench.Result, server: figures.Samples) -> None:
    own, mean_s = serving.own_figures(server), server.mean(figures.E2E)
    metrics = {
        **result.metrics(), **own, "power": result.requests_per_s / mean_s,
        "client_server_ttft_diff_pct": (result.ttft.p50 / own["server_ttft_p50_ms"] - 1) * 100,
    }  # fmt: skip
    ctx.record(point, metrics, result.spreads())
