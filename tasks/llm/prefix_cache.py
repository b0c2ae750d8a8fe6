"""vLLM's automatic prefix caching under traces of given hit rates: what the server finds, what a request waits."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tasks import api
from tasks.llm import serving, sweep
from tasks.services.llm import client, figures
from tasks.services.llm.endpoint import Endpoint
from tasks.services.timing import spread

DETAILS = "--enable-prompt-tokens-details"  # usage then says how many of a prompt's tokens came from the cache
HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
RESERVED = 8  # the first ids are special tokens


class Params(api.Params):
    served: serving.Served = serving.Served(max_model_len=2048, prefix_caching=True)
    prefix_tokens: int = Field(1024, ge=16)
    suffix_tokens: int = Field(64, ge=1)
    new_tokens: int = Field(4, ge=1)
    requests: int = Field(24, ge=4)


class Point(api.Params):
    hit_rate_pct: int = Field(0, ge=0, le=100)


METRICS = {
    "observed_hit_rate_pct": "requests of which the server took at least half of the beginning from its cache",
    "hit_tokens_pct": "prompt tokens that the server took from its cache (its counters)",
    "ttft_ms": "time to the first token at the client, median; requests one after another",
    "ttft_hit_ms": "the same of the requests that hit",
    "ttft_miss_ms": "the same of the requests that missed",
    "latency_p50_ms": "time of a whole request, median",
    "latency_p99_ms": "time of a whole request, 99th percentile",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [serving.both("vLLM prefix caching")]


def run(params: Params, ctx: api.Context) -> None:
    folder = serving.folder_of(params.served, ctx)
    vocabulary = int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"])

    def record(server: Endpoint, point: Point) -> None:
        ctx.record(point, *measure(server, params, point, vocabulary, ctx))

    sweep.each(ctx, ctx.points, lambda: serving.checked(params.served, folder, ctx, extra=(DETAILS,)), record)


def trace(params: Params, rate_pct: int, vocabulary: int, seed: int) -> tuple[list[int], list[tuple[bool, list[int]]]]:
    """The prompt that fills the cache, then (begins like it, prompt) of each request, in a drawn order."""
    rng = random.Random(f"{seed} {rate_pct}")

    def some(count: int) -> list[int]:
        return [rng.randrange(RESERVED, vocabulary) for _ in range(count)]

    shared, hits = some(params.prefix_tokens), round(params.requests * rate_pct / 100)
    again = [index < hits for index in range(params.requests)]
    rng.shuffle(again)
    prompts = [(hit, (shared if hit else some(params.prefix_tokens)) + some(params.suffix_tokens)) for hit in again]
    return shared + some(params.suffix_tokens), prompts


def measure(
    server: Endpoint, params: Params, point: Point, vocabulary: int, ctx: api.Context
) -> tuple[dict[str, float], dict[str, api.Spread]]:
    fill, prompts = trace(params, point.hit_rate_pct, vocabulary, ctx.seed)
    client.stream(server, fill, params.new_tokens, ignore_eos=True)
    before = figures.metrics(server)
    answers = [client.stream(server, ids, params.new_tokens, ignore_eos=True) for _, ids in prompts]
    counted = figures.metrics(server).since(before)
    hit = [cached(one) >= params.prefix_tokens // 2 for one in answers]
    ttft = [1000 * one.ttft_s for one in answers]
    whole, first = spread([1000 * one.seconds for one in answers]), spread(ttft)
    found = {
        "observed_hit_rate_pct": 100 * sum(hit) / len(hit),
        "hit_tokens_pct": 100 * counted.value(HITS) / counted.value(QUERIES),
        "ttft_ms": first.p50, "latency_p50_ms": whole.p50, "latency_p99_ms": whole.p99,
    }  # fmt: skip
    spreads = {"ttft_ms": first, "latency_p50_ms": whole, "latency_p99_ms": whole}
    for name, kind in (("ttft_hit_ms", True), ("ttft_miss_ms", False)):
        if some := [value for value, was in zip(ttft, hit, strict=True) if was is kind]:
            spreads[name] = spread(some)
            found[name] = spreads[name].p50
    return found, spreads


def cached(answer: client.Answer) -> int:
    """Prompt tokens of this request that came from the cache, as the server says."""
    details: Any = answer.usage.get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens") or 0)
