"""Kind `llm_ceiling`: the highest concurrency that still meets the SLO, found by search, for KV caches of given sizes.

A load meets the SLO when at least `share` of its requests stay within every bound and none fails. The search doubles
the concurrency until that is no longer so and then halves the gap. The cache's size is what memory allows; the
arithmetic (tokens in the cache / tokens of a request) stands beside what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from pydantic import Field

from tasks import api
from tasks.llm import serving, sweep
from tasks.services.llm import bench, figures
from tasks.services.llm.endpoint import Endpoint


class Params(serving.Served):
    prompt_tokens: int = Field(default=128, ge=1)
    output_tokens: int = Field(default=128, ge=2)
    slo: Mapping[str, float] = Field(default_factory=lambda: {"ttft_ms": 500.0, "tpot_ms": 50.0}, min_length=1)
    share: float = Field(default=0.95, gt=0, le=1)
    limit: int = Field(default=64, ge=1)  # the search goes no further
    precision: float = Field(default=0.25, gt=0)  # the gap at which it ends, of the ceiling
    rounds: int = Field(default=2, ge=1)  # a probe of c at a time sends c × rounds requests
    minimum: int = Field(default=8, ge=1)


class Point(api.Params):
    """`kv_requests` requests of full length fit in the KV cache, by the formula."""

    kv_requests: int = Field(default=16, ge=1)


METRICS = {
    "ceiling_concurrency": "highest probed number of requests at a time that met the SLO; 0 when one alone did not",
    "failed_at": "lowest probed number of requests at a time that did not meet the SLO; the next one when all did",
    "kv_tokens": "tokens that the server's KV cache holds, by the server",
    "kv_mib": "size of the KV cache in MiB, by the formula for this model",
    "fitting_requests": "requests of full length that fit in the server's cache at the same time",
    "ttft_p95_ms": "95th percentile of the time to the first token at the ceiling",
    "tpot_p95_ms": "95th percentile of the time per further output token at the ceiling",
    "goodput_rps": "requests per second within the SLO at the ceiling",
    "output_tokens_per_s": "output tokens per second at the ceiling",
    "server_queue_ms": "mean wait before a request was scheduled, in the lowest load that failed (else at the ceiling)",
    "preemptions": "requests that lost their KV blocks during the whole search",
    "probes_count": "loads that the search put on the server",
}


@dataclass(frozen=True)
class Probe:
    """A load of `concurrency` requests at a time, what the client saw, whether the SLO was met, the server's queue."""

    concurrency: int
    result: bench.Result
    met: bool
    queue_ms: float


def needs(params: Params) -> Sequence[api.Needs]:
    return serving.on_device()


def run(params: Params, ctx: api.Context) -> None:
    length = params.prompt_tokens + params.output_tokens
    for point in ctx.points:
        served = params.model_copy(update={"kv_tokens": length * point.kv_requests, "max_model_len": length})
        with sweep.spared(ctx, point):
            folder = serving.folder_of(served, ctx)
            with serving.checked(served, folder, ctx) as server:
                record(ctx, params, folder, serving.kv_bytes(folder, served), server, point)


def search(probe: Callable[[int], Probe], limit: int, precision: float) -> list[Probe]:
    """Probes in the order they were made: 1, 2, 4, … to the first that fails, then halving the gap."""
    made = [probe(1)]
    while made[-1].met and made[-1].concurrency < limit:
        made.append(probe(min(limit, 2 * made[-1].concurrency)))
    while (gap := bounds(made))[1] - gap[0] > max(1, precision * gap[0]) and gap[0]:
        made.append(probe((gap[0] + gap[1]) // 2))
    return made


def bounds(made: Sequence[Probe]) -> tuple[int, int]:
    """The highest concurrency that met the SLO (0: none), and the lowest that did not (the next one when all did)."""
    lowest = min((probe.concurrency for probe in made if not probe.met), default=made[-1].concurrency + 1)
    return max((probe.concurrency for probe in made if probe.met and probe.concurrency < lowest), default=0), lowest


def put(server: Endpoint, concurrency: int, folder: Path, params: Params, ctx: api.Context) -> Probe:
    """One probe: so many requests at a time."""
    before = figures.metrics(server)
    result = serving.load(
        server, folder, ctx, requests=max(params.minimum, concurrency * params.rounds), concurrency=concurrency,
        prompt_tokens=params.prompt_tokens, output_tokens=params.output_tokens, slo=params.slo,
        seed=ctx.seed + concurrency,
    )  # fmt: skip
    kept = result.goodput_rps / result.requests_per_s
    met = kept >= params.share and not result.failed
    ctx.say(f"{concurrency} at a time: {kept:.0%} within the SLO")
    queue = figures.metrics(server).since(before).mean(figures.QUEUE)
    return Probe(concurrency, result, met, queue * 1000)


def record(ctx: api.Context, params: Params, folder: Path, size: int, server: Endpoint, point: Point) -> None:
    before = figures.metrics(server)
    made = search(lambda count: put(server, count, folder, params, ctx), params.limit, params.precision)
    ceiling, failed_at = bounds(made)
    best = next((probe for probe in made if probe.concurrency == ceiling), made[0])
    over = next((probe for probe in made if probe.concurrency == failed_at), best)
    tokens = cached_tokens(server)
    metrics = {
        "ceiling_concurrency": ceiling, "failed_at": failed_at, "kv_tokens": tokens, "kv_mib": size / 2**20,
        "fitting_requests": tokens // (params.prompt_tokens + params.output_tokens),
        "ttft_p95_ms": best.result.ttft.p95, "tpot_p95_ms": best.result.tpot.p95,
        "goodput_rps": best.result.goodput_rps, "output_tokens_per_s": best.result.output_tokens_per_s,
        "server_queue_ms": over.queue_ms, "probes_count": len(made),
        "preemptions": figures.metrics(server).since(before).value(figures.PREEMPTIONS),
    }  # fmt: skip
    scatter = {"ttft_p95_ms": best.result.ttft, "tpot_p95_ms": best.result.tpot}
    ctx.record(point, metrics, scatter, remark(ceiling, failed_at, params))


def remark(ceiling: int, failed_at: int, params: Params) -> str:
    """What the two ends of the search mean for the figures."""
    if not ceiling:
        return "one request alone did not meet the SLO: the figures are that request's"
    return "" if failed_at <= params.limit else f"the SLO was still met at the limit of the search, {params.limit}"


def cached_tokens(server: Endpoint) -> int:
    """How many tokens the server's KV cache holds, as it says itself."""
    from prometheus_client.parser import text_string_to_metric_families

    with urlopen(f"{server.address}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    for sample in (sample for family in families for sample in family.samples):
        if sample.name.startswith("vllm:cache_config_info"):
            return int(sample.labels["num_gpu_blocks"]) * int(sample.labels["block_size"])
    raise api.UserError("it does not tell the size of its KV cache", where=server.model)
