"""Curves that show how something grows with a length, from an experiment's own rows."""

from __future__ import annotations

from collections.abc import Mapping

from tasks import api


def draw(ctx: api.Context, axis: str, lines: Mapping[str, str], across: str, name: str) -> None:
    """`lines` maps metrics in MiB to their words, `across` names the axis.

    Both axes are logarithmic: growth in proportion is a line. Rows of an earlier, interrupted run are drawn as well.
    """
    from matplotlib.figure import Figure

    rows = [row for row in api.read_rows(ctx.out / "rows.jsonl", ctx.spec) if row["metrics"] and axis in row["point"]]
    rows.sort(key=lambda row: float(row["point"][axis]))
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    graph = figure.add_subplot()
    lengths = [row["point"][axis] for row in rows]
    for metric, words in lines.items():
        graph.plot(lengths, [row["metrics"][metric] for row in rows], marker="o", label=words)
    graph.set(xscale="log", yscale="log", xlabel=across, ylabel="MiB")
    graph.set_xticks(lengths, [str(length) for length in lengths])
    graph.minorticks_off()
    graph.grid(alpha=0.3)
    graph.legend()
    figure.savefig(ctx.out / name, dpi=110)
