"""Kind `parallel_overlap`: the shares of computing and communicating in a pass, and how much of it overlaps.

The spans come from torch.profiler (`spans`); the middle one of several profiled passes is drawn.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks import api
from tasks.distributed import ranks, spans
from tasks.distributed.shape import Shape
from tasks.services import timing

METRICS = {
    "compute_ms": "time of a pass in which operators ran, median of the profiled passes, mean of the ranks",
    "comm_ms": "time in which a collective was under way, waiting for the other rank included; likewise",
    "overlap_pct": "communication during which the same rank computed, in percent of its communication; likewise",
    "latency_ms": "median of a forward pass without the profiler, of the slowest rank each time",
    "max_abs_diff": "largest absolute difference from one device's output",
}


class Params(Shape):
    @model_validator(mode="after")
    def _two_pieces(self) -> Params:
        if self.batch < 2:
            raise ValueError("overlapping needs a batch of two or more: one is computed while another is summed")
        return self


class Point(api.Params):
    ways: int = Field(default=2, ge=2)
    overlap: Literal["off", "on"] = "off"


def needs(params: Params) -> Sequence[api.Needs]:
    return ranks.needs(2)


def run(params: Params, ctx: api.Context) -> None:
    for ways in sorted({point.ways for point in ctx.points}):
        params.divided(ways)
        points = [point for point in ctx.points if point.ways == ways]
        steps = [params.step("overlap" if p.overlap == "on" else "tensor", ctx.seed, profile=True) for p in points]
        answers = ranks.measure(ctx.day / params.file, ways, ctx.backend, steps, ctx.scratch)
        for point, seen in zip(points, answers, strict=True):
            record(point, seen, params, ctx)


def record(point: Point, seen: Sequence[ranks.Seen], params: Params, ctx: api.Context) -> None:
    difference = ranks.equal(seen, params.file)
    latency = timing.spread(ranks.latencies(seen))
    shares = [shares_of(one) for one in seen]
    compute, comm, both = (statistics.fmean(values) for values in zip(*shares, strict=True))
    draw(seen, ctx.out / f"timeline-{point.ways}-ways-overlap-{point.overlap}.svg")
    ctx.record(
        point,
        {
            "compute_ms": compute, "comm_ms": comm, "overlap_pct": both, "latency_ms": latency.p50,
            "max_abs_diff": difference,
        },
        {"latency_ms": latency},
        f"shares of {len(seen[0].computing)} profiled passes; the profiler itself lengthens computing",
    )  # fmt: skip


def shares_of(rank: ranks.Seen) -> tuple[float, float, float]:
    """Medians over the passes of one rank: computing (ms), communicating (ms), overlapped (% of communicating)."""
    passes = list(zip(rank.computing, rank.talking, strict=True))
    overlapped = [100 * spans.common(c, t) / spans.length(t) if t else 0.0 for c, t in passes]
    return (
        statistics.median(spans.length(computing) for computing, _ in passes),
        statistics.median(spans.length(talking) for _, talking in passes),
        statistics.median(overlapped),
    )


def draw(seen: Sequence[ranks.Seen], file: Path) -> None:
    """Bars over time, two for each rank: the pass whose communication is the middle one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    order = sorted(range(len(seen[0].talking)), key=lambda n: spans.length(seen[0].talking[n]))
    middle = order[len(order) // 2]
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.7 * len(seen)))
    labels = []
    for number, rank in enumerate(seen):
        for lane, colour, all_passes in ((0, "#4477aa", rank.computing), (1, "#ee6677", rank.talking)):
            bars = [(start, end - start) for start, end in all_passes[middle]]
            axes.broken_barh(bars, (2 * number + lane + 0.1, 0.8), facecolors=colour)
        labels += [f"rank {number} compute", f"rank {number} communicate"]
    axes.set_yticks([n + 0.5 for n in range(len(labels))], labels)
    axes.set_xlabel("ms")
    finish(figure, file)


def finish(figure: Any, file: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
