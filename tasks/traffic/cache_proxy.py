"""Redis in front of Triton: what a response cache gains, what its expiry costs, and when it lies.

The learner's `redis_client.py` is executed; it is neither timed nor counted by itself: hits are Redis' own
`keyspace_hits`, misses are the requests that Triton computed, and the two must add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tasks import api
from tasks.traffic import cache_proxy_concurrency, cache_proxy_expiry, cache_proxy_speed, cache_proxy_update
from tasks.traffic.cache_proxy_params import PLUGIN_BACKEND, Params, Point

__all__ = ["METRICS", "Params", "Point", "needs", "run"]

PLUGIN = "/opt/tritonserver/caches/redis/libtritoncache_redis.so"
METRICS = {
    "hit_rate_pct": "requests that were answered without computing, of all requests",
    "observed_hit_pct": "Redis keyspace_hits of all look-ups (keyspace_hits + keyspace_misses)",
    "keyspace_hits": "look-ups that Redis answered with an entry, from INFO",
    "latency_p50_ms": "median latency of a request through the client",
    "latency_p99_ms": "99th percentile of the latency of a request through the client",
    "throughput_rps": "answered requests a second (median of the repeats)",
    "stale_pct": "answers of a version older than the live one, of all answers",
    "redis_memory_mb": "memory that Redis uses at the end beyond the empty server, in MB (10^6 bytes)",
    "updates_count": "model updates during the window",
    "redis_cpu_pct": "CPU that Redis uses under the client's load, of one core (INFO used_cpu_user + used_cpu_sys)",
    "ops_per_s": "requests a second through the client (median of the repeats)",
    "raw_ops_per_s": "GETs a second of the same entry by redis-benchmark with as many connections",
    "raw_latency_p99_ms": "99th percentile of redis-benchmark's GETs",
    "raw_redis_cpu_pct": "CPU that Redis uses under redis-benchmark, of one core",
    "stale_reads": "answers of the old version to requests that were sent when the new one was already live",
    "reads_count": "requests that were sent after the new version was live",
    "conflict_pct": "pages (8 inputs asked together) whose answers mix versions, of the pages after the update",
    "convergence_s": "from the new version going live to the last stale answer; the whole window if it never converged",
    "converged": "1 when a sweep over all inputs at the end found no stale answer",
}

SCENARIOS: Mapping[str, Callable[[api.Context, Params], None]] = {
    "response_cache": cache_proxy_speed.response_cache,
    "hit_rate": cache_proxy_speed.hit_rate,
    "expiry": cache_proxy_expiry.expiry,
    "concurrency": cache_proxy_concurrency.concurrency,
    "inconsistent_update": cache_proxy_update.inconsistent_update,
}


def needs(params: Params) -> Sequence[api.Needs]:
    """Only `response_cache` asks for something that few machines have: Triton's own Redis cache."""
    here = ("redis-server",)  # redis-benchmark comes with it
    client = api.Needs(backend="Redis", environment="triton", binaries=here, memory_gb=2)
    if params.scenario != "response_cache":
        return [client]
    native = replace(client, backend=PLUGIN_BACKEND, binaries=(*here, PLUGIN))
    stand_in = replace(client, stand_in_for=PLUGIN_BACKEND)
    return [native, stand_in]


def run(params: Params, ctx: api.Context) -> None:
    """Measure every point of `ctx.points` in the scenario's way."""
    SCENARIOS[params.scenario](ctx, params)
