"""Time a call honestly: warmed up, repeated for a budget, fresh inputs each time, median and tails with the count."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tasks.api import Spread

WARM_UP, MINIMUM = 3, 20


def repeat(
    call: Callable[..., Any], inputs: Sequence[tuple[Any, ...]], budget_s: float, minimum: int = MINIMUM
) -> list[float]:
    """Milliseconds of `call(*inputs[i])`, the inputs in turn, until the budget is spent and `minimum` is reached."""
    for index in range(WARM_UP):
        call(*inputs[index % len(inputs)])
    samples: list[float] = []
    deadline = time.perf_counter() + budget_s
    while len(samples) < minimum or time.perf_counter() < deadline:
        given = inputs[len(samples) % len(inputs)]
        began = time.perf_counter()
        call(*given)
        samples.append((time.perf_counter() - began) * 1000)
    return samples


def spread(samples: Sequence[float]) -> Spread:
    """Sample count, percentiles (linear interpolation) and standard deviation, in the samples' unit."""
    import numpy

    p50, p95, p99 = map(float, numpy.percentile(samples, [50, 95, 99]))
    return Spread(len(samples), p50, p95, p99, float(numpy.std(samples)))
