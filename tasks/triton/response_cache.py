"""Kind `triton_cache`: the same requests without a cache, with Triton's own, and with Redis asked by the client."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.request import urlopen

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.services import redis
from tasks.services.cached_triton import LOCAL_CACHE
from tasks.services.timing import spread
from tasks.triton import config as pbtxt
from tasks.triton import learner_client, repository
from tasks.triton.client import max_abs_error

METRICS = {
    "hit_rate_pct": "requests answered from the cache, counted by Triton or by Redis, not by the client",
    "latency_p50_ms": "median time of a request as the client sees it",
    "latency_p99_ms": "99th percentile of the same requests",
    "first_p50_ms": "median of the requests whose input was not asked before: misses, where there is a cache",
    "again_p50_ms": "median of the requests whose input was asked before: hits, where there is a cache",
}


class Params(repository.Source):
    client: str = "client_infer.py"
    images: int = 16  # in one request
    pool: int = 80  # different requests; few are asked often, most seldom (Zipf)
    requests: int = 300
    repeats: int = 3  # each with inputs that no cache has seen
    zipf: float = 1.0


class Point(Base):
    cache: Literal["off", "triton_local", "client_redis"] = "off"


@dataclass(frozen=True)
class Asked:
    """One repeat: milliseconds of requests with new and with known inputs, and the cache's own count of hits."""

    first: Sequence[float]
    again: Sequence[float]
    hits: int


@dataclass(frozen=True)
class Setup:
    """What a point asks: a learner's client, and where hits are counted."""

    served: repository.Served
    client: Any
    store: redis.Redis | None

    def hits(self, cache: str) -> int:
        if cache == "client_redis" and self.store:
            return self.store.usage().hits
        return triton_hits(self.served) if cache == "triton_local" else 0


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton and Redis", environment="triton", binaries=("redis-server",), memory_gb=1)]


def run(params: Params, ctx: Context) -> None:
    """For each point a fresh server; every answer, from a cache or not, is compared with ONNX Runtime's."""
    for point in ctx.points:
        ctx.say(f"starting Triton, cache {point.cache}")
        with serve(point, params, ctx) as setup:
            asked = [ask(point, params, setup, (ctx.seed, number)) for number in range(params.repeats)]
        times = [ms for one in asked for ms in (*one.first, *one.again)]
        latency = spread(times)
        metrics = {
            "hit_rate_pct": 100 * sum(one.hits for one in asked) / len(times),
            "latency_p50_ms": latency.p50,
            "latency_p99_ms": latency.p99,
            "first_p50_ms": spread([ms for one in asked for ms in one.first]).p50,
            "again_p50_ms": spread([ms for one in asked for ms in one.again]).p50,
        }
        ctx.record(point, metrics, {"latency_p50_ms": latency})


@contextmanager
def serve(point: Point, params: Params, ctx: Context) -> Iterator[Setup]:
    """Triton with its cache on or off, Redis where the client asks it, and the learner's client."""
    make = learner_client.load(ctx.day / params.client)
    local, folder = point.cache == "triton_local", ctx.scratch / point.cache
    with ExitStack() as stack:
        store = None
        if point.cache == "client_redis":
            store = stack.enter_context(redis.serve(ctx.scratch / "redis.log"))
        served = stack.enter_context(
            repository.serve(
                params, ctx, ctx.out / "triton.log", folder=folder, args=LOCAL_CACHE if local else (),
                change=lambda model: pbtxt.with_response_cache(model, local),
            )
        )  # fmt: skip
        client = make("grpc", served.grpc, params.model, redis_url=store.url if store else None)
        stack.callback(client.close)
        yield Setup(served, client, store)


def ask(point: Point, params: Params, setup: Setup, seed: Sequence[int]) -> Asked:
    """One repeat. The caches must have counted exactly the requests that came again as hits."""
    import numpy

    rng = numpy.random.default_rng(seed)
    shape = (params.pool, params.images, *setup.served.model.input[0].dims)
    pages = rng.random(shape, dtype=numpy.float32)
    expected = [setup.served.references[setup.served.version](page) for page in pages]
    shares = numpy.arange(1, params.pool + 1, dtype=float) ** -params.zipf
    order = rng.choice(params.pool, params.requests, p=shares / shares.sum()).tolist()
    setup.client.infer(rng.random(shape[1:], dtype=numpy.float32))  # opens the connections
    before, first, again = setup.hits(point.cache), dict[int, float](), list[float]()
    for index in order:
        start = time.perf_counter()
        answer = setup.client.infer(pages[index])
        spent = (time.perf_counter() - start) * 1000
        max_abs_error(answer, expected[index], f"{params.client}, cache {point.cache}", params.tolerance)
        if index in first:
            again.append(spent)
        else:
            first[index] = spent
    hits = setup.hits(point.cache) - before
    if point.cache != "off" and hits != len(again):
        raise UserError(f"{len(again)} requests came again, but the cache counted {hits} hits", where=params.client)
    return Asked(list(first.values()), again, hits)


def triton_hits(served: repository.Served) -> int:
    """Requests that Triton's response cache has answered, by its metrics endpoint."""
    with urlopen(f"http://{served.server.metrics}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    counts = re.findall(r"^nv_cache_num_hits_per_model\{[^}]*\} (\d+)", text, re.MULTILINE)
    return sum(int(count) for count in counts)
