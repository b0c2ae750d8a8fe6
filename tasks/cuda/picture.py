"""The picture of bank conflicts: how many different words one warp wants of each of the 32 banks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.cuda.trace import BANKS

COLUMNS = 2
CALM, CONFLICT = "#2a7f62", "#c0392b"


def banks(bars: Mapping[str, list[int]], file: Path) -> None:
    """`bars`: title → words wanted of bank 0 … 31 by one warp's request. One panel each, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    rows = -(-len(bars) // COLUMNS)
    highest = max(max(words) for words in bars.values())
    size = (9, 1.6 * rows + 0.6)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=size, sharex=True, sharey=True, squeeze=False)
    for panel in axes.flat[len(bars) :]:
        panel.set_visible(False)
    for panel, (title, words) in zip(axes.flat, bars.items(), strict=False):
        colours = [CONFLICT if count > 1 else CALM for count in words]
        panel.bar(range(BANKS), words, color=colours)
        degree = max(words)
        panel.set_title(f"{title}: " + ("no conflict" if degree == 1 else f"{degree}-way conflict"), fontsize=9)
        panel.set_ylim(0, highest * 1.1)
    figure.supxlabel("shared memory bank", fontsize=9)
    figure.supylabel("different words wanted by one warp", fontsize=9)
    figure.tight_layout()
    figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)
