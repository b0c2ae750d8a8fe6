"""The kind `llm_bottlenecks`: the bottleneck chart, drawn from records alone and read back before it is handed out.

Left: the machine's roofline with every measured phase on it. Right: what prefill and decode spend their time in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks import api
from tasks.llm import bottleneck_picture
from tasks.llm.bottleneck_picture import Label

CHART = "bottleneck_chart.svg"
METRICS: Mapping[str, str] = {
    "panels_count": "panels of the chart: the roofline, and the shares of the operators",
    "labels_count": "labels with a figure on the chart",
    "labels_traced_pct": "labels of the written file whose figures stand in a record, in percent",
    "memory_bound_count": "phases that memory bounds",
    "compute_bound_count": "phases that computing bounds",
}


class Params(api.Params):
    """The experiments of this day whose records are drawn."""

    roofline: str = "roofline-verdict"
    capture: str = "kernel-capture"


class Point(api.Params):
    """There is one chart."""


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="records", environment="runner", memory_gb=0.3)]


def run(params: Params, ctx: api.Context) -> None:
    stored = {record["id"]: record for record in ctx.stored() if not record["variant"]}
    rows = {name: stored.get(name, {}).get("rows", []) for name in (params.roofline, params.capture)}
    lacking = [name for name, found in rows.items() if not found]
    if lacking:
        raise api.UserError(f"nothing measured yet: {', '.join(lacking)}", remedy=f"run experiment={lacking[0]} first")
    roofline, capture = rows[params.roofline], rows[params.capture]
    file = ctx.day / CHART
    tiers = {name: f"{stored[name]['backend']} ({stored[name]['tier']})" for name in rows}
    bottleneck_picture.draw(roofline, capture, file, " · ".join(tiers.values()))
    written, wanted = bottleneck_picture.labels(file), bottleneck_picture.expected(roofline, capture)
    refuse(written, wanted)
    bound = [bool(row["metrics"]["memory_bound_ok"]) for row in roofline]
    for point in ctx.points:
        ctx.record(point, {
            "panels_count": bottleneck_picture.panels(file), "labels_count": len(written),
            "labels_traced_pct": 100 * len(written & wanted) / len(written),
            "memory_bound_count": sum(bound), "compute_bound_count": len(bound) - sum(bound),
        })  # fmt: skip


def refuse(written: set[Label], wanted: set[Label]) -> None:
    """A chart with a figure that no record holds, or without one of theirs, is not handed out."""
    if strange := written ^ wanted:
        raise api.UserError(f"these labels do not agree with the records: {sorted(strange)[:5]}", where=CHART)
