"""The bottleneck chart as SVG, and its labels as they are read back from the file."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Label = str
FAMILIES = ("gemm", "attention", "cache", "norm", "rotary", "activation", "sampling", "elementwise", "other")
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#8b5cf6", "#ec4899", "#14b8a6", "#ef4444", "#a16207", "#9ca3af")
SHOWN_PCT = 5.0  # a share below it has no label: there is no room for it in its bar


def expected(roofline: Sequence[Row], capture: Sequence[Row]) -> set[Label]:
    """Every label that the chart of these rows must carry, and no other."""
    phases = {phase_label(row) for row in roofline}
    return phases | {label for row in capture for _, label in share_labels(row)}


def phase_label(row: Row) -> Label:
    """What stands beside a phase on the roofline."""
    metrics = row["metrics"]
    bound = "memory-bound" if metrics["memory_bound_ok"] else "compute-bound"
    where = f"{metrics['intensity_flop_per_byte']:.3g} FLOP/byte, {metrics['achieved_gflops']:.3g} GFLOP/s"
    return f"{name_of(row)}: {bound}, {where}"


def share_labels(row: Row) -> list[tuple[str, Label]]:
    """The families that are wide enough for a label, each with it."""
    found = ((family, row["metrics"][f"{family}_share_pct"]) for family in FAMILIES)
    return [(family, f"{name_of(row)} {family} {share:.1f} %") for family, share in found if share >= SHOWN_PCT]


def name_of(row: Row) -> str:
    batch = row["point"].get("batch")
    return f"{row['point']['phase']}" + (f" ×{batch}" if batch else "")


def labels(file: Path) -> set[Label]:
    """The labels with figures that stand in the chart; ET.ParseError when it is no SVG."""
    texts = (node for node in ET.parse(file).getroot().iter() if node.tag.rpartition("}")[2] == "text")
    said = {" ".join("".join(node.itertext()).split()) for node in texts}
    return {text for text in said if "FLOP/byte," in text or text.endswith(" %")}


def panels(file: Path) -> int:
    """How many panels stand in the chart: matplotlib's groups of axes."""
    return sum(node.get("id", "").startswith("axes_") for node in ET.parse(file).getroot().iter())


def draw(roofline: Sequence[Row], capture: Sequence[Row], file: Path, source: str) -> None:
    """Both panels; text stays text, so that the file can be read back."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bottlenecks", "font.size": 9}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 5.2), layout="constrained")
        figure.suptitle(f"Where inference spends its time: {source}", fontsize=10)
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        roof(left, roofline)
        shares(right, capture)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def roof(panel: Any, rows: Sequence[Row]) -> None:
    """The roof from memory's slope to the peak, and the phases under it, on logarithmic axes."""
    first = rows[0]["metrics"]
    peak, bandwidth, ridge = first["peak_gflops"], first["bandwidth_gb_s"], first["ridge_flop_per_byte"]
    across = [row["metrics"]["intensity_flop_per_byte"] for row in rows]
    low, high = min(*across, ridge) / 3, max(*across, ridge) * 3
    panel.plot([low, ridge, high], [bandwidth * low, peak, peak], color="#374151", linewidth=1.8)
    panel.axvline(ridge, color="#9ca3af", linestyle="--", linewidth=1)
    panel.annotate(
        f"ridge at {ridge:.3g}", (ridge, bandwidth * low), xytext=(4, 4), textcoords="offset points", color="#6b7280"
    )
    for row, colour in zip(rows, COLOURS * len(rows), strict=False):
        metrics = row["metrics"]
        place = metrics["intensity_flop_per_byte"], metrics["achieved_gflops"]
        panel.plot(*place, "o", color=colour, markersize=8)
        side, shift = ("left", 9) if place[0] < ridge else ("right", -9)
        panel.annotate(
            phase_label(row), place, xytext=(shift, -12), textcoords="offset points", color=colour, fontsize=8, ha=side
        )
    panel.set(xscale="log", yscale="log", xlabel="FLOP for each byte moved", ylabel="GFLOP/s", title="Roofline")
    panel.margins(y=0.1)
    panel.grid(alpha=0.3)


def shares(panel: Any, rows: Sequence[Row]) -> None:
    """One bar for each phase: the share of each family of operators."""
    for place, row in enumerate(rows):
        begin, said = 0.0, dict(share_labels(row))
        for family, colour in zip(FAMILIES, COLOURS, strict=True):
            share = row["metrics"][f"{family}_share_pct"]
            panel.barh(place, share, left=begin, color=colour, label=family if not place else None)
            if family in said:
                panel.text(begin + share / 2, place, said[family], rotation=90, ha="center", va="center", fontsize=7)
            begin += share
    panel.set_yticks(range(len(rows)), [name_of(row) for row in rows])
    panel.set(xlim=(0, 100), xlabel="share of the operators' time in percent", title="Operators")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, fontsize=8, frameon=False)
