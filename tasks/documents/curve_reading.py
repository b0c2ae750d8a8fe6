"""Reads a drawn figure back: marks' coordinates → values by the axes' own ticks, then looks them up in the record."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.documents import stored
from tasks.documents.stored import Record

SVG = "{http://www.w3.org/2000/svg}"
PAIR = re.compile(r"(-?[\d.]+(?:e-?\d+)?)[ ,]+(-?[\d.]+(?:e-?\d+)?)")
PIXEL = 0.02  # SVG user units; the coordinates are written with six decimals


@dataclass(frozen=True)
class Mark:
    """A plotted point as the picture shows it: `error` is what a fiftieth of a pixel is worth on the y axis."""

    metric: str
    series: str
    x: str
    value: float
    error: float


def marks(svg: str) -> Iterator[Mark]:
    """Every mark of every panel. Raises ET.ParseError when the text is no SVG."""
    for panel in ET.fromstring(svg).iter(f"{SVG}g"):
        if panel.get("id", "").startswith("axes_"):
            yield from marks_of(panel)


def marks_of(panel: ET.Element) -> Iterator[Mark]:
    across, up = ticks(panel, "x"), ticks(panel, "y")
    (y0, low), (y1, high) = ((at, float(label)) for at, label in (up[0], up[-1]))
    scale = (high - low) / (y1 - y0)
    for group in panel.iter(f"{SVG}g"):
        shape, *names = group.get("id", "").split("|")
        if shape not in ("line", "bar"):
            continue
        metric, series, place = names
        path = group.find(f"{SVG}path")
        corners = [] if path is None else [(float(x), float(y)) for x, y in PAIR.findall(path.get("d", ""))]
        if shape == "bar":  # from zero to the value: the edge that lies farther from zero
            zero = y0 - low / scale
            corners = [max(corners, key=lambda corner: abs(corner[1] - zero))] if corners else []
        for x, y in corners:
            here = place or min(across, key=lambda tick: abs(tick[0] - x))[1]
            if shape == "line" and all(abs(tick[0] - x) > PIXEL for tick in across):
                here = "between the points"
            yield Mark(metric, series, here, low + (y - y0) * scale, abs(scale) * PIXEL)


def ticks(panel: ET.Element, axis: str) -> list[tuple[float, str]]:
    """The labelled ticks of an axis: position in SVG units and label."""
    found = []
    for group in panel.iter(f"{SVG}g"):
        use, text = group.find(f".//{SVG}use"), group.find(f".//{SVG}text")
        if group.get("id", "").startswith(f"{axis}tick_") and use is not None and text is not None:
            found.append((float(use.get(axis, "nan")), "".join(text.itertext()).replace("−", "-")))
    return found


def is_stored(mark: Mark, record: Record, axis: str) -> bool:
    """Whether the record holds that value, within the drawing's precision, at that point."""
    for row in record["rows"]:
        rest = ",".join(f"{name}={stored.text(value)}" for name, value in row["point"].items() if name != axis)
        same = rest.replace(" ", "_") == mark.series and stored.text(row["point"].get(axis, "")) in (
            mark.x,
            mark.x.replace("_", " "),
        )
        if same and mark.metric in row["metrics"] and abs(row["metrics"][mark.metric] - mark.value) <= mark.error:
            return True
    return False


def traced(svg: str, record: Record, axis: str) -> tuple[int, int]:
    """(points found in the record, points drawn)."""
    drawn = list(marks(svg))
    return sum(is_stored(mark, record, axis) for mark in drawn), len(drawn)
