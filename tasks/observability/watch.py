"""A live Prometheus that scrapes a Triton, and what it says about the time of a load."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.api import UserError
from tasks.observability.panels import DURATIONS, REQUESTS
from tasks.services import prometheus
from tasks.services.prometheus import Prometheus, Series

SCRAPE_S = 0.5


@dataclass(frozen=True)
class Watch:
    """The time from `start` to `end` (unix s) in a running Prometheus."""

    prometheus: Prometheus
    start: float
    end: float

    def total(self, counter: str, model: str) -> float:
        """By how much a model's counter grew."""
        series = self.prometheus.query_range(counter.format(model=model), self.start, self.end, SCRAPE_S)
        if not series or len(series[0].samples) < 2:
            raise UserError(f"Prometheus has no samples of {counter.format(model=model)}")
        return series[0].samples[-1][1] - series[0].samples[0][1]

    def mean_ms(self, model: str, *durations: str) -> float:
        """The mean time in ms of one request of the model in the given durations together."""
        requests = self.total(REQUESTS, model)
        if requests < 1:
            raise UserError(f"Prometheus saw no request of {model}")
        return sum(self.total(DURATIONS[name], model) for name in durations) / requests / 1000

    def scrapes(self, model: str) -> int:
        """How many samples of the model's request counter Prometheus took."""
        window = f"[{math.ceil(self.end - self.start)}s]"
        series = self.prometheus.query(f"count_over_time({REQUESTS.format(model=model)}{window})", self.end)
        return int(series[0].samples[0][1])

    def curve(self, expression: str) -> list[Series]:
        """A panel's query, one point each scrape interval, without the points where nothing was served (0/0)."""
        found = self.prometheus.query_range(expression, self.start, self.end, SCRAPE_S)
        kept = [Series(one.labels, tuple(pair for pair in one.samples if math.isfinite(pair[1]))) for one in found]
        return [one for one in kept if one.samples]


@contextmanager
def watching(metrics: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus on Triton's metrics port, every target scraped once."""
    with prometheus.serve({"triton": metrics}, folder, scrape_interval_s=SCRAPE_S) as server:
        yield server


def finish(server: Prometheus, start: float) -> Watch:
    """Wait until Triton's counters are published and scraped for what happened up to now; the time since `start`."""
    end = time.time() + 2 * SCRAPE_S
    deadline = end + 10
    while not (series := server.query("timestamp(up)")) or series[0].samples[0][1] < end:
        if time.time() > deadline:
            raise UserError("Prometheus has stopped scraping")
        time.sleep(SCRAPE_S / 5)
    return Watch(server, start, end)
