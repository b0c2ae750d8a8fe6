"""Kind `architecture`: the week's system as a picture, drawn from passed records only and read back afterwards."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pydantic import Field

from tasks import api
from tasks.documents import architecture, parts, stored
from tasks.documents.architecture import Shown
from tasks.documents.stored import Record

SIZE, GAP = (4.2, 1.6), (0.35, 0.6)  # inches
LINE = 58  # characters
COLOURS = {False: "#10b981", True: "#f59e0b"}  # by whether it is a stand-in

METRICS = {
    "parts_shown": "boxes of the picture: parts of the week's system that a passed record proves",
    "parts_left_out": "parts of the week's plan that no passed record proves, and which are not drawn",
    "components_traced_pct": "boxes and systems named in the written picture that a passed record names, in percent",
}


class Params(api.Params): ...


class Point(api.Params):
    week: int = Field(default=12, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="records", environment="runner", memory_gb=0.3)]


def run(params: Params, ctx: api.Context) -> None:
    records = [record for record in stored.load(ctx.records) if not record["variant"]]
    for point in ctx.points:
        ctx.record(point, pictured(f"week{point.week:02d}", records, ctx))


def pictured(week: str, records: Sequence[Record], ctx: api.Context) -> Mapping[str, float]:
    """`architecture.svg` and `architecture.zh.svg`; the figures are of the English one."""
    planned = parts.of_week(week)
    if not planned:
        raise api.UserError(f"{week} has no picture", where="matrix.week")
    found: dict[str, float] = {}
    for lang, name in (("zh", "architecture.zh.svg"), ("en", "architecture.svg")):
        ran = {part.id: part for part in architecture.shown(records, lang)}
        if not any(part.id in ran for part in planned):
            raise api.UserError("no part of the picture has run", remedy=f"run the earlier days first: run plan={week}")
        file = ctx.out / name
        draw(week, ran, file)
        text = " ".join(words(file))
        wrong = architecture.unproved(text, records)
        if wrong:
            raise api.UserError(f"no passed record shows that these ran: {', '.join(wrong)}", where=name)
        boxes = sum(part.id in ran for part in planned)
        named = boxes + sum(system in text.lower() for system in architecture.SYSTEMS)
        found = {
            "parts_shown": boxes, "parts_left_out": len(planned) - boxes,
            "components_traced_pct": 100 * (named - len(wrong)) / named,
        }  # fmt: skip
    return found


def words(file: Path) -> list[str]:
    """The texts of the picture as a viewer shows them."""
    tree = ElementTree.parse(file)
    return ["".join(node.itertext()) for node in tree.iter("{http://www.w3.org/2000/svg}text")]


def draw(week: str, ran: Mapping[str, Shown], file: Path) -> None:
    """Row by row as the week lays them out, an arrow into each linked row."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    rows = [(row, [ran[part.id] for part in row.parts if part.id in ran]) for row in parts.PICTURES[week]]
    rows = [(row, boxes) for row, boxes in rows if boxes]
    wide = max(len(boxes) for _, boxes in rows) * (SIZE[0] + GAP[0]) + GAP[0]
    tall = len(rows) * (SIZE[1] + GAP[1]) + 0.2
    figure, axes = pyplot.subplots(figsize=(wide, tall))
    axes.set(xlim=(0, wide), ylim=(tall, 0))
    axes.axis("off")
    for number, (row, boxes) in enumerate(rows):
        top = GAP[1] + number * (SIZE[1] + GAP[1])
        left = (wide - len(boxes) * (SIZE[0] + GAP[0]) + GAP[0]) / 2
        if row.linked:
            arrow = {"arrowstyle": "-|>", "color": "#4b5563"}
            axes.annotate("", (wide / 2, top), (wide / 2, top - GAP[1]), arrowprops=arrow)
        for place, part in enumerate(boxes):
            box(axes, part, left + place * (SIZE[0] + GAP[0]), top)
    figure.savefig(file, bbox_inches="tight")
    pyplot.close(figure)


def box(axes: Any, part: Shown, left: float, top: float) -> None:
    """One part: its name, what it ran on, its telling figures, and the record that they come from."""
    from matplotlib.patches import FancyBboxPatch

    colour = COLOURS[part.stand_in]
    style: dict[str, Any] = {
        "facecolor": colour + "1a",
        "edgecolor": colour,
        "linestyle": "--" if part.stand_in else "-",
    }
    axes.add_patch(FancyBboxPatch((left, top), *SIZE, boxstyle="round,pad=0,rounding_size=0.1", **style))
    ran_on = textwrap.wrap(f"{part.backend} · {part.tier}", LINE)[:2]
    lines = [(part.title, 12, "bold"), *((text, 8, "normal") for text in (*ran_on, part.metric, part.values))]
    for number, (text, size, weight) in enumerate([*lines, (part.record, 7, "normal")]):
        y = top + 0.3 + 0.23 * number
        axes.text(left + 0.12, y, text.replace("$", r"\$"), fontsize=size, fontweight=weight, family="sans-serif")
