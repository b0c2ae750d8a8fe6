"""Kind `knowledge_map`: the learner's map of concepts as a picture and a document, each concept with its own figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from pydantic import Field

from tasks import api
from tasks.documents import audit, concepts, stored, tables
from tasks.documents.concepts import Map
from tasks.documents.figures import heading
from tasks.documents.stored import Record

METRICS = {
    "concepts_count": "concepts of the map",
    "links_count": "links: what must be understood before what",
    "weeks_count": "weeks that have a concept",
    "measured_pct": "concepts whose figure an experiment that passed has measured, in percent",
    "numbers_traced_pct": "numbers of the written document that were found again in the records, in percent",
}
BOX, HEIGHT, GAP, MARGIN = 230, 44, 34, 110  # pixels
COLOURS = {True: ("#e8f1fb", "#1f5fbf"), False: ("#f3f3f3", "#8a8a8a")}  # measured: fill, line


class Params(api.Params):
    """`file` in the day's folder is what the learner writes; `picture` and `document` are made from it."""

    file: str = "knowledge_map.yaml"
    weeks: int = Field(default=11, ge=1)
    document: str = "knowledge_map.md"
    picture: str = "knowledge_map.svg"


class Point(api.Params): ...


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="records", memory_gb=0.3)]


def run(params: Params, ctx: api.Context) -> None:
    given = concepts.read(ctx.day / params.file)
    if wrong := concepts.faults(given, params.weeks):
        raise api.UserError("\n".join(wrong[:10]), where=params.file, remedy="mend the map: every link goes forward")
    records = {stored.name(record): record for record in stored.load(ctx.records) if record["status"] == "passed"}
    text = document(given, records, params.picture)
    found = audit.audit(text, list(records.values()))
    if found.faults:
        remedy = "a title with a number in it: spell the number out"
        raise api.UserError("these do not trace to a record:\n" + "\n".join(found.faults[:10]), remedy=remedy)
    (ctx.day / params.picture).write_text(picture(given, records), encoding="utf-8")
    (ctx.day / params.document).write_text(text, encoding="utf-8")
    shown = sum(concepts.measured(concept, records) for concept in given.concepts.values())
    for point in ctx.points:
        ctx.record(
            point,
            {
                "concepts_count": len(given.concepts), "links_count": len(given.links()),
                "weeks_count": len({concept.week for concept in given.concepts.values()}),
                "measured_pct": 100 * shown / len(given.concepts), "numbers_traced_pct": found.traced_pct,
            },
        )  # fmt: skip


def document(given: Map, records: Mapping[str, Record], picture: str) -> str:
    """The map as Markdown, both languages: a table for each week, a row for each concept."""
    parts = ["# Knowledge map · 知识图谱\n", f"![Knowledge map]({picture})\n"]
    for week in sorted({concept.week for concept in given.concepts.values()}):
        rows = [row(name, given, records) for name, concept in given.concepts.items() if concept.week == week]
        header = ("concept", "概念", "builds on", "shown by", "metric", "values", "tier")
        parts.append(f"## Week {week} · 第 {week} 周\n\n{tables.Table(header, [False] * 7, rows).markdown()}\n")
    return "\n".join(parts)


def row(name: str, given: Map, records: Mapping[str, Record]) -> list[str]:
    concept = given.concepts[name]
    builds_on = ", ".join(given.concepts[need].title.en for need in concept.needs) or "–"
    start = [concept.title.en, concept.title.zh, builds_on, f"`{concept.shown_by}`"]
    if not concepts.measured(concept, records):
        return [*start, heading(concept.metric), "–", tables.badge("not measured yet")]
    record = records[concept.shown_by]
    shown = tables.values(record, concept.metric, most=4)
    return [*start, heading(concept.metric), shown, tables.badge(stored.label(record))]


def picture(given: Map, records: Mapping[str, Record]) -> str:
    """An SVG: a line of boxes for each week, a curve for each link. Grey: not measured yet."""
    places = layout(given)
    width = max(x for x, _ in places.values()) + BOX + GAP
    height = max(y for _, y in places.values()) + HEIGHT + GAP
    size = {"viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height)}
    root = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", **size})
    ET.SubElement(root, "rect", {"width": str(width), "height": str(height), "fill": "#ffffff"})
    for need, name in given.links():
        ET.SubElement(root, "path", {"d": curve(places[need], places[name]), "fill": "none", "stroke": "#9db3cf"})
    for name, (x, y) in places.items():
        box(root, x, y, given.concepts[name], concepts.measured(given.concepts[name], records))
    for week, y in {given.concepts[name].week: y for name, (_, y) in places.items()}.items():
        label(root, MARGIN / 2, y + HEIGHT / 2 + 4, f"week {week} · 第 {week} 周", "12", "#333333")
    return ET.tostring(root, encoding="unicode")


def curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    """From the foot of a box to the head of a later one, or to its neighbour's side."""
    (x1, y1), (x2, y2) = start, end
    if y1 == y2:
        return f"M{x1 + BOX},{y1 + HEIGHT // 2} L{x2},{y2 + HEIGHT // 2}"
    x1, x2, y1 = x1 + BOX // 2, x2 + BOX // 2, y1 + HEIGHT
    return f"M{x1},{y1} C{x1},{y1 + GAP} {x2},{y2 - GAP} {x2},{y2}"


def layout(given: Map) -> dict[str, tuple[int, int]]:
    """Where each concept's box begins: weeks from top to bottom, every second one a little to the right."""
    weeks = sorted({concept.week for concept in given.concepts.values()})
    seen = dict.fromkeys(weeks, 0)
    found = {}
    for name, concept in given.concepts.items():
        line, column = weeks.index(concept.week), seen[concept.week]
        found[name] = (MARGIN + column * (BOX + 2 * GAP) + (line % 2) * BOX // 2, GAP + line * (HEIGHT + GAP))
        seen[concept.week] += 1
    return found


def box(root: ET.Element, x: int, y: int, concept: concepts.Concept, measured: bool) -> None:
    fill, line = COLOURS[measured]
    place = {"x": str(x), "y": str(y), "width": str(BOX), "height": str(HEIGHT), "rx": "6"}
    ET.SubElement(root, "rect", {**place, "fill": fill, "stroke": line})
    label(root, x + BOX / 2, y + 19, concept.title.en, "12", "#1c2430")
    label(root, x + BOX / 2, y + 37, concept.title.zh, "12", "#4a5565")


def label(root: ET.Element, x: float, y: float, text: str, size: str, colour: str) -> None:
    place = {"x": str(x), "y": str(y), "text-anchor": "middle", "font-size": size, "fill": colour}
    ET.SubElement(root, "text", place).text = text
