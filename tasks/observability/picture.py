"""A picture of dashboard panels, drawn from the results of their queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.services.prometheus import Series


def draw(file: Path, title: str, panels: Mapping[str, Mapping[str, Sequence[Series]]], start: float) -> None:
    """A PNG with one graph for each panel (title -> legend -> series), in ms over the seconds since `start`."""
    from matplotlib.figure import Figure

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.5 * columns, 3.2 * rows), layout="constrained")
    figure.suptitle(title)
    for number, (panel, queries) in enumerate(panels.items(), start=1):
        graph = figure.add_subplot(rows, columns, number)
        for legend, found in queries.items():
            for series in found:
                graph.plot([at - start for at, _ in series.samples], [ms for _, ms in series.samples], label=legend)
        graph.set(title=panel, xlabel="s", ylabel="ms")
        graph.margins(y=0.4)  # room for the legend
        graph.set_ylim(bottom=0)
        graph.grid(alpha=0.3)
        if graph.lines:
            graph.legend(fontsize="small", loc="upper center", ncols=3)
    figure.savefig(file, dpi=110)
