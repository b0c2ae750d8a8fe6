"""Kind `dispatch_latency`: the whole latency distribution at each rate, as figures, as a table and as a curve."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.dispatching import rates, shared

METRICS = {
    **{
        f"latency_p{p}_ms": f"{name} of the latency of answered requests, from the moment they were due"
        for p, name in (
            (10, "10th percentile"), (25, "25th percentile"), (50, "median"), (75, "75th percentile"),
            (90, "90th percentile"), (95, "95th percentile"), (99, "99th percentile"), (999, "99.9th percentile"),
        )
    },
    "tail_ratio": "99.9th percentile over the median",
    "achieved_qps": "requests answered with 200 within the seconds of the load, per second",
    "answered_pct": "requests answered with 200, of those that were due: the distribution is of these",
}  # fmt: skip


class Params(rates.Params): ...


class Point(api.Params):
    qps: int = Field(default=1000, gt=0)


def needs(params: Params) -> Sequence[api.Needs]:
    return [shared.NEEDS]


def run(params: Params, ctx: api.Context) -> None:
    for number, point in enumerate(ctx.points):
        answers, _ = rates.offer(params, point.qps, ctx.seed + 100 + number, ctx)
        good, percentiles = answers.good_ms(), answers.percentiles_ms()
        keep(good, ctx.out / f"latency-cdf-{point.qps}-qps.csv")
        ctx.record(
            point,
            {
                **percentiles, "tail_ratio": percentiles["latency_p999_ms"] / percentiles["latency_p50_ms"],
                "achieved_qps": answers.achieved_qps(params.seconds),
                "answered_pct": answers.shares()["answered_pct"],
            },
            {"latency_p50_ms": answers.latency_ms()},
        )  # fmt: skip
    draw(sorted(ctx.out.glob("latency-cdf-*-qps.csv")), ctx.out / "latency-cdf.svg")


def keep(good: Any, file: Path) -> None:
    """The distribution at every half percent and in the tail: `share_pct,latency_ms`."""
    import numpy as np

    shares = np.concatenate([np.arange(0.5, 99.5, 0.5), [99.5, 99.9, 99.95, 100]])
    with file.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink)
        writer.writerow(["share_pct", "latency_ms"])
        writer.writerows((f"{s:g}", f"{v:.4f}") for s, v in zip(shares, np.percentile(good, shares), strict=True))


def draw(files: Sequence[Path], file: Path) -> None:
    """The curves of all rates measured so far, latency on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for one in sorted(files, key=lambda each: int(each.stem.split("-")[2])):
        rows = list(csv.DictReader(one.read_text(encoding="utf-8").splitlines()))
        latencies, shares = [float(r["latency_ms"]) for r in rows], [float(r["share_pct"]) for r in rows]
        axes.plot(latencies, shares, label=f"{int(one.stem.split('-')[2]):,} QPS offered")
    axes.set_xscale("log")
    axes.set(xlabel="latency from when the request was due (ms)", ylabel="answered requests at most this slow (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
