"""A dashboard as a picture: every panel's curves over the time of a load, in the panel's own unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.services.prometheus import Series

SCALES = {"s": (1000.0, "ms"), "percentunit": (100.0, "%")}  # Grafana's unit -> how it is drawn


def draw(
    file: Path,
    units: Mapping[str, str],
    panels: Mapping[str, Mapping[str, Sequence[Series]]],
    start: float,
    load: float,
) -> None:
    """A PNG with a graph for each panel, over the seconds since `start`; the load began at `load`."""
    from matplotlib.figure import Figure

    columns = 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(13, 3 * rows), layout="constrained")
    for number, (title, queries) in enumerate(panels.items(), start=1):
        graph = figure.add_subplot(rows, columns, number)
        scale, unit = SCALES.get(units.get(title, ""), (1.0, ""))
        for legend, found in queries.items():
            for series in found:
                xs, ys = [at - start for at, _ in series.samples], [value * scale for _, value in series.samples]
                graph.plot(xs, ys, label=legend, linewidth=1.6)
        graph.axvline(load - start, color="#6b7280", linestyle="--", linewidth=1)
        graph.set_title(title, loc="left", fontsize=11, fontweight="bold")
        graph.set(xlabel="s", ylabel=unit)
        graph.set_xlim(left=0)
        graph.set_ylim(0, 1.25 * graph.get_ylim()[1])  # room for the legend
        graph.grid(alpha=0.3)
        if graph.lines:
            graph.legend(fontsize="small", loc="upper left")
    figure.suptitle("The queries on a live Prometheus; the load begins at the dashed line", fontsize=10)
    figure.savefig(file, dpi=100)
