"""What a Prometheus knows of a drill: its newest sample, the holes in its samples, the rules that it evaluates."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from itertools import pairwise

from tasks.services.prometheus import Prometheus

JOB, PLACE = "model", "place"
# the time of `up == 1` would be that of the query: only a plain selector has its sample's
NEWEST = f'max(timestamp(up{{job="{JOB}"}}) and up{{job="{JOB}"}} == 1)'


def newest(prometheus: Prometheus) -> float:
    """Unix time of the newest successful scrape of a replica; 0 when there is none."""
    try:
        series = prometheus.query(NEWEST)
    except OSError:
        return 0.0  # it is not listening yet
    return series[0].samples[0][1] if series else 0.0


def longest_gap_s(prometheus: Prometheus, start: float, end: float) -> float:
    """The longest time in [start, end] (unix s) in which a replica's place was not scraped successfully.

    The samples themselves are looked at, not interpolated ones; a hole at either end counts up to that end.
    """
    window = math.ceil(time.time() - start) + 1
    found = prometheus.ask("query", {"query": f'up{{job="{JOB}"}}[{window}s]'})["result"]
    places: dict[str, list[float]] = defaultdict(list)
    for series in found:
        good = [float(at) for at, value in series["values"] if float(value) == 1 and start <= float(at) <= end]
        places[series["metric"][PLACE]] += good
    return max((max(b - a for a, b in pairwise([start, *sorted(good), end])) for good in places.values()), default=0.0)


def rules_evaluated(prometheus: Prometheus) -> int:
    """Alert rules whose last evaluation was good."""
    groups = prometheus.ask("rules", {"type": "alert"})["groups"]
    return sum(rule["health"] == "ok" for group in groups for rule in group["rules"])
