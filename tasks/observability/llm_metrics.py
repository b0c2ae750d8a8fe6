"""Kind `llm_metrics`: Prometheus, with the day's own configuration, scrapes vLLM's /metrics, idle and under load.

What Prometheus counts is compared with what the client of the same load counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tasks import api
from tasks.observability import llm_live
from tasks.observability.llm_live import JOB, Window

FILTER = f'{{job="{JOB}"}}'


class Params(llm_live.Watched):
    pass


class Point(api.Params):
    load: Literal["idle", "loaded"] = "loaded"


METRICS = {
    "up_pct": "scrapes of the window that reached vLLM and were answered in time, in percent",
    "series_count": "series that vLLM's /metrics gives Prometheus",
    "scrape_points": "scrapes in the window",
    "scrape_ms": "mean time of a scrape",
    "running_max": "highest number of requests running in a scrape (vllm:num_requests_running)",
    "waiting_max": "highest number of requests waiting in a scrape (vllm:num_requests_waiting)",
    "kv_used_max_pct": "highest share of the KV cache in use in a scrape (vllm:kv_cache_usage_perc)",
    "tokens_by_prometheus": "tokens generated in the window, from vllm:generation_tokens_total",
    "tokens_by_client": "tokens that vllm bench serve counted in the same window",
    "tokens_equal_bool": "1 when both counts are the same",
    "output_tokens_per_s": "the same counter's growth per second of the window",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(
            backend="vLLM + Prometheus", environment="serving", memory_gb=4, settings=("model",),
            binaries=("prometheus", "promtool"),
        )
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    with llm_live.watching(params, ctx) as (server, watcher, folder):
        for point in ctx.points:
            if point.load == "idle":
                window, tokens = llm_live.idle(watcher, params.idle_s), 0
            else:
                window, result = llm_live.loaded(server, watcher, folder, params, ctx)
                tokens = result.output_tokens
            ctx.record(point, seen(window, tokens))


def seen(window: Window, client_tokens: int) -> dict[str, float]:
    """The window in Prometheus's words, beside the client's count of tokens."""
    counted = grown(window, f"vllm:generation_tokens_total{FILTER}")
    return {
        "up_pct": 100 * window.value(f"avg_over_time(up{FILTER}[$window])"),
        "series_count": window.value(f'count({{__name__=~"vllm:.*",job="{JOB}"}})'),
        "scrape_points": window.value(f"count_over_time(up{FILTER}[$window])"),
        "scrape_ms": 1000 * window.value(f"avg_over_time(scrape_duration_seconds{FILTER}[$window])"),
        "running_max": window.value(f"max_over_time(vllm:num_requests_running{FILTER}[$window])"),
        "waiting_max": window.value(f"max_over_time(vllm:num_requests_waiting{FILTER}[$window])"),
        "kv_used_max_pct": 100 * window.value(f"max_over_time(vllm:kv_cache_usage_perc{FILTER}[$window])"),
        "tokens_by_prometheus": counted, "tokens_by_client": client_tokens,
        "tokens_equal_bool": counted == client_tokens,
        "output_tokens_per_s": counted / (window.end - window.start),
    }  # fmt: skip


def grown(window: Window, counter: str) -> float:
    """By how much a counter grew: the difference of its samples, without the extrapolation of `increase`."""
    first, last = (window.prometheus.query(counter, at)[0].samples[0][1] for at in (window.start, window.end))
    return last - first
