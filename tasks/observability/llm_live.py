"""A vLLM that is loaded while a real Prometheus scrapes its /metrics, and what Prometheus says of the time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.llm import serving
from tasks.observability import configuration
from tasks.services import prometheus
from tasks.services.llm.bench import Result
from tasks.services.llm.endpoint import Endpoint
from tasks.services.prometheus import Prometheus, Series

SCRAPE_S = 0.5
JOB = "vllm"


class Watched(serving.Served):
    """A vLLM that is small enough for a load to fill it: requests wait, the KV cache is nearly used up."""

    config: str = "prometheus.yaml"  # the day's file; its job `vllm` is what watches
    kv_tokens: int = Field(default=4096, ge=16)
    max_num_seqs: int = Field(default=16, ge=1)
    max_model_len: int = Field(default=256, ge=16)
    idle_s: float = Field(default=4.0, gt=0)
    requests: int = Field(default=96, ge=1)
    concurrency: int = Field(default=24, ge=1)
    prompt_tokens: int = Field(default=64, ge=1)
    output_tokens: int = Field(default=96, ge=1)


@dataclass(frozen=True)
class Window:
    """The time from `start` to `end` (unix s) in a running Prometheus."""

    prometheus: Prometheus
    start: float
    end: float

    @property
    def seconds(self) -> int:
        return math.ceil(self.end - self.start)

    def value(self, expression: str) -> float:
        """One number for the window; `$window` is its length. UserError when the query does not give exactly one."""
        found = self.prometheus.query(expression.replace("$window", f"{self.seconds}s"), self.end)
        if len(found) != 1:
            raise api.UserError(f"{expression} gives {len(found)} series, not one")
        return found[0].samples[0][1]

    def curve(self, expression: str) -> list[Series]:
        """A query over the window, a point each scrape interval, without those that are no numbers (0/0)."""
        found = self.prometheus.query_range(expression, self.start, self.end, SCRAPE_S)
        kept = [Series(one.labels, tuple(pair for pair in one.samples if math.isfinite(pair[1]))) for one in found]
        return [one for one in kept if one.samples]


@contextmanager
def watching(params: Watched, ctx: api.Context) -> Iterator[tuple[Endpoint, Prometheus, Path]]:
    """The checked vLLM, the Prometheus that runs the day's own configuration on it, and the model's folder."""
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    folder = serving.folder_of(params, ctx)
    with serving.checked(params, folder, ctx) as server:
        ctx.say("starting Prometheus")
        targets = {JOB: server.address.removeprefix("http://")}
        placed = configuration.placed(config, ctx.day, targets, interval_s=SCRAPE_S)
        with prometheus.configured(placed, ctx.scratch / "prometheus") as watcher:
            prometheus.await_targets(watcher, 1, 20)
            yield server, watcher, folder


def idle(watcher: Prometheus, seconds: float) -> Window:
    """A time without requests."""
    start = settled(watcher)
    time.sleep(seconds)
    return Window(watcher, start, settled(watcher))


def loaded(
    server: Endpoint, watcher: Prometheus, folder: Path, params: Watched, ctx: api.Context
) -> tuple[Window, Result]:
    """A load by vllm bench serve: (window, what the client saw)."""
    start = settled(watcher)
    result = serving.load(
        server, folder, ctx, requests=params.requests, concurrency=params.concurrency,
        prompt_tokens=params.prompt_tokens, output_tokens=params.output_tokens,
    )  # fmt: skip
    return Window(watcher, start, settled(watcher)), result


def settled(watcher: Prometheus) -> float:
    """Now, once Prometheus has scraped everything that happened until now."""
    now = time.time()
    deadline = now + 20
    query = f'timestamp(up{{job="{JOB}"}})'
    while not (series := watcher.query(query)) or series[0].samples[0][1] < now:
        if time.time() > deadline:
            raise api.UserError("Prometheus has stopped scraping vLLM")
        time.sleep(SCRAPE_S / 5)
    return time.time()
