"""Request counters of known shape: hours of them as history in a TSDB, and the same counters going on, live."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAMILY = "http_requests"  # its samples are http_requests_total
MODELS = 4


@dataclass(frozen=True)
class Counters:
    """`series` counters of requests, spread over models and routes; each rises with a rate that swings by a third."""

    series: int
    start: float  # unix time at which all are 0

    def labels(self, number: int) -> dict[str, str]:
        return {"model": f"model_{number % MODELS}", "route": f"/v2/{number // MODELS}"}

    def values(self, at: float) -> Any:
        """All counters at a unix time: the integral of rate × (1 + sin(2πt/period)/3), in whole requests."""
        import numpy

        number: Any = numpy.arange(self.series)
        rate, period, age = 1 + number % 17, 300 + 10.0 * (number % 60), at - self.start
        swing = period / (2 * math.pi) / 3 * (1 - numpy.cos(2 * math.pi * age / period))
        return numpy.floor(rate * (age + swing))

    def write(self, file: Path, target: Mapping[str, str], end: float, step_s: int) -> int:
        """The counters from `start` to `end` as OpenMetrics, with the labels of their target; returns the samples."""
        prefixes = []
        for number in range(self.series):
            labels = ",".join(f'{name}="{value}"' for name, value in {**self.labels(number), **target}.items())
            prefixes.append(f"{FAMILY}_total{{{labels}}} ")
        moments = range(int(self.start), int(end) + 1, step_s)
        columns = [self.values(at).astype(int).tolist() for at in moments]
        with file.open("w", encoding="utf-8") as sink:
            sink.write(f"# TYPE {FAMILY} counter\n")
            for number, prefix in enumerate(prefixes):
                sink.writelines(f"{prefix}{column[number]} {at}\n" for at, column in zip(moments, columns, strict=True))
            sink.write("# EOF\n")
        return self.series * len(moments)

    def registry(self, clock: Any) -> Any:
        """A prometheus_client registry of the same counters at the time of each scrape."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.core import CounterMetricFamily

        counters = self

        class Live:
            def collect(self) -> Iterator[Any]:
                family = CounterMetricFamily(FAMILY, "Requests served", labels=["model", "route"])
                for number, value in enumerate(counters.values(clock())):
                    family.add_metric(list(counters.labels(number).values()), value)
                yield family

        registry = CollectorRegistry()
        registry.register(Live())
        return registry
