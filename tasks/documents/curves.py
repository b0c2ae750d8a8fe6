"""A record as a figure: one panel for each metric, bars over names, lines over numbers. Deterministic SVG.

Nothing is smoothed, interpolated or estimated: every mark is a stored row (tasks.documents.curve_reading proves it
by reading the drawn coordinates back). Text is kept as text and drawn in `currentColor`, so that a page can style it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.documents import stored
from tasks.documents.figures import heading, number
from tasks.documents.stored import Record

Lines = Mapping[str, Sequence[tuple[Any, float]]]

INK = "#010203"  # stands for currentColor until the figure is written
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ec4899", "#8b5cf6", "#ef4444")
STYLE = "<style>:root{color:#1f2937}@media(prefers-color-scheme:dark){:root{color:#e5e7eb}}</style>"
PANELS = 6
WIDTHS = {1: 4.4, 2: 4.0, 3: 3.1, 4: 2.5}  # inches of a panel, by how many stand side by side
RC = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
}


def plotted(record: Record) -> list[str]:
    """The asked-for metrics that have a shape: measured at two points or more, and not a truth value."""
    if record["status"] != "passed":
        return []
    asked = [metric for metric in record["stanza"].get("metrics") or [] if not metric.endswith("_bool")]
    return [metric for metric in asked if sum(metric in row["metrics"] for row in record["rows"]) > 1][:PANELS]


def abscissa(record: Record) -> str:
    """The axis drawn along x: the one with the most values, a numeric one before a named one."""
    matrix = record["stanza"]["matrix"]
    return str(max(matrix, key=lambda axis: (len(matrix[axis]), is_numeric(matrix[axis]))))


def is_numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def series_of(record: Record, metric: str, axis: str) -> dict[str, list[tuple[Any, float]]]:
    """The metric's measured rows as lines: other coordinates → [(x, value)], in the matrix's order."""
    lines: dict[str, list[tuple[Any, float]]] = {}
    for point in stored.points(record):
        row = stored.row_of(record, point)
        if row and metric in row["metrics"]:
            rest = ",".join(f"{name}={stored.text(value)}" for name, value in point.items() if name != axis)
            lines.setdefault(rest, []).append((point[axis], row["metrics"][metric]))
    return lines


def draw(record: Record) -> str:
    """The figure of a record as SVG text; empty when fewer than two points were measured.

    Panels: one per metric. Marks carry `id="<line or bar>|<metric>|<series>|<x of a bar>"`.
    """
    names = plotted(record)
    if not names:
        return ""
    import matplotlib

    settings: Any = {**RC, "svg.hashsalt": stored.name(record)}  # matplotlib types its keys one by one
    with matplotlib.rc_context(settings):
        from matplotlib.figure import Figure

        columns = len(names) if len(names) <= 4 else 3
        rows = math.ceil(len(names) / columns)
        figure = Figure(figsize=(WIDTHS[columns] * columns, 2.5 * rows), layout="constrained")
        axis = abscissa(record)
        colours = COLOURS if record["tier"] == "native" else COLOURS[1:] + COLOURS[:1]
        for index, metric in enumerate(names):
            panel = figure.add_subplot(rows, columns, index + 1)
            lines = series_of(record, metric, axis)
            (draw_lines if is_numeric(record["stanza"]["matrix"][axis]) else draw_bars)(panel, metric, lines, colours)
            dress(panel, metric, axis, lines)
        if len(lines) > 1:
            handles = panel.get_legend_handles_labels()
            figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False, labelcolor=INK)
        return as_text(figure)


def as_text(figure: Any) -> str:
    """The figure's SVG without dates, with the page's ink, scaled by its width."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue().replace(INK, "currentColor")
    svg = svg[svg.index("<svg") :]
    return svg.replace("<defs>", STYLE + "<defs>", 1) + ("" if svg.endswith("\n") else "\n")


def draw_lines(panel: Any, metric: str, lines: Lines, colours: Sequence[str]) -> None:
    """Numbers along x: a line with a marker at every measured point; logarithmic from a factor of ten on."""
    places = sorted({x for line in lines.values() for x, _ in line})
    if places[0] > 0 and places[-1] >= 10 * places[0]:
        panel.set_xscale("log")
    panel.margins(x=0.12)
    panel.minorticks_off()
    panel.set_xticks(places, [stored.text(place) for place in places])
    for index, (name, line) in enumerate(lines.items()):
        xs, ys = zip(*line, strict=True)
        colour = colours[index % len(colours)]
        (drawn,) = panel.plot(xs, ys, "-o", color=colour, markersize=4, linewidth=1.6, label=name, clip_on=False)
        drawn.set_gid(mark("line", metric, name))
        if len(lines) == 1:
            for x, y in line:
                above(panel, x, y)


def draw_bars(panel: Any, metric: str, lines: Lines, colours: Sequence[str]) -> None:
    """Names along x: bars from zero, grouped by the other coordinates."""
    places = list(dict.fromkeys(x for line in lines.values() for x, _ in line))
    panel.set_xticks(range(len(places)), [stored.text(place) for place in places])
    if sum(len(stored.text(place)) for place in places) > 30:
        for label in panel.get_xticklabels():
            label.set(rotation=20, ha="right")
    width = 0.62 / len(lines)
    for index, (name, line) in enumerate(lines.items()):
        shift = (index - (len(lines) - 1) / 2) * width
        xs = [places.index(x) + shift for x, _ in line]
        colour = colours[index % len(colours)]
        bars = panel.bar(xs, [y for _, y in line], width * 0.9, color=colour, label=name, clip_on=False)
        for bar, x, (place, y) in zip(bars, xs, line, strict=True):
            bar.set_gid(mark("bar", metric, name, stored.text(place)))
            if len(lines) == 1:
                above(panel, x, y)
    panel.set_xlim(-0.6, len(places) - 0.4)


def mark(shape: str, metric: str, series: str, place: str = "") -> str:
    """The id under which a mark can be found again in the file."""
    return "|".join((shape, metric, series, place)).replace(" ", "_")


def above(panel: Any, x: float, y: float) -> None:
    """The value in figures over its mark."""
    panel.annotate(number(y), (x, y), xytext=(0, 4), textcoords="offset points", ha="center", fontsize=7.5)


def dress(panel: Any, metric: str, axis: str, lines: Lines) -> None:
    """Title, a y axis from zero with plain tick labels."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    panel.set_title(heading(metric), fontsize=9.5, loc="left", pad=12, fontweight="bold")
    panel.set_xlabel(axis.replace("_", " "), fontsize=8.5)
    tallest = max(y for line in lines.values() for _, y in line)
    lowest = min(y for line in lines.values() for _, y in line)
    panel.set_ylim(min(0, lowest * 1.15), tallest * 1.15 if tallest > 0 else (0 if lowest < 0 else 1))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.12g}"))
    panel.grid(axis="y", alpha=0.18, linewidth=0.6)
    panel.set_axisbelow(True)
