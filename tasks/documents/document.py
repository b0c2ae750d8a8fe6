"""Kind `document`: tables, curves or résumé bullets from records only; then reads its file back and traces it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.documents import audit, bullet_reading, bullets, curve_reading, curves, stored, tables
from tasks.documents.stored import Record

METRICS = {
    "tables_count": "tables of the report, one for each experiment that it reads",
    "rows_count": "rows of the comparison tables, one for each point of each experiment",
    "numbers_traced_pct": "numbers of the written file that were found again in the records, in percent",
    "figures_count": "figures drawn, one for each experiment with two or more measured points",
    "points_traced_pct": "marks whose drawn coordinates give back a stored value, in percent",
    "bullets_count": "résumé bullets that the records bear out",
}


class Both(api.Params):
    """A text in both languages."""

    en: str
    zh: str


class Highlight(api.Params):
    """A change worth a résumé bullet: `metric` at `value` against `baseline`, two points of one experiment."""

    experiment: str = Field(pattern=r"^[\w-]+/[\w.-]+$")
    metric: str
    baseline: dict[str, Any]
    value: dict[str, Any]
    better: Literal["lower", "higher"]
    did: Both
    how: Both


class Published(api.Params):
    """A figure that somebody else published, shown beside ours with its hardware and never as a bar to pass."""

    experiment: str = Field(pattern=r"^[\w-]+/[\w.-]+$")
    metric: str  # of ours, the one that can stand beside the published figure
    what: Both
    figure: str
    hardware: Both
    source: str


class Params(api.Params):
    """`published` is what the weekly report prints beside our own figures; `highlights` in order of preference."""

    make: Literal["table", "curves", "bullets", "report"]
    highlights: list[Highlight] = Field(default_factory=list)
    published: list[Published] = Field(default_factory=list)


class Point(api.Params):
    """`days` is a range such as `15-20`, `bullets` how many bullets are wanted, `week` the week that is reported."""

    days: str = Field(default="15-20", pattern=r"^\d+-\d+$")
    bullets: int = Field(default=3, ge=1)
    week: int = Field(default=1, ge=1)


def needs(params: Params) -> list[api.Needs]:
    return [api.Needs(backend="records", environment="runner", memory_gb=0.3)]


def run(params: Params, ctx: api.Context) -> None:
    makers = {"table": make_tables, "curves": make_curves, "bullets": make_bullets, "report": make_report}
    records = [record for record in stored.load(ctx.records) if not record["variant"]]
    for point in ctx.points:
        if not any(record["status"] == "passed" for record in records):
            raise api.UserError("no passed record to write about", remedy="first run the experiments that it reads")
        ctx.record(point, makers[params.make](params, point, records, ctx))


def within(records: Sequence[Record], days: str) -> list[Record]:
    """The records of a range of days."""
    first, last = (int(day) for day in days.split("-"))
    return [record for record in records if first <= stored.number_of(record["day"]) <= last]


def make_tables(params: Params, point: Point, records: Sequence[Record], ctx: api.Context) -> Mapping[str, float]:
    """The tables of a range of days."""
    found = write_tables(within(records, point.days), ctx)
    return {"rows_count": found.rows, "numbers_traced_pct": found.traced_pct}


def make_curves(params: Params, point: Point, records: Sequence[Record], ctx: api.Context) -> Mapping[str, float]:
    """The curves of a range of days."""
    figures, traced_pct = write_curves(within(records, point.days), ctx)
    return {"figures_count": figures, "points_traced_pct": traced_pct}


def make_report(params: Params, point: Point, records: Sequence[Record], ctx: api.Context) -> Mapping[str, float]:
    """The tables and curves of everything read: what the week's report is made of, traced before it is written."""
    found = write_tables(records, ctx)
    figures, _ = write_curves(records, ctx)
    return {"tables_count": len(records), "figures_count": figures, "numbers_traced_pct": found.traced_pct}


def write_tables(records: Sequence[Record], ctx: api.Context) -> audit.Audit:
    """`tables.md`: every experiment's points and metrics with their tier, read back."""
    file = ctx.out / "tables.md"
    parts = [f"## `{stored.name(record)}`\n\n{tables.results(record).markdown()}\n" for record in records]
    file.write_text("\n".join(parts), encoding="utf-8")
    found = audit.audit(file.read_text(encoding="utf-8"), records)
    refuse(found.faults, file)
    ctx.say(f"{len(records)} tables, {found.rows} rows, {found.numbers} numbers looked up")
    return found


def write_curves(records: Sequence[Record], ctx: api.Context) -> tuple[int, float]:
    """`curves/<day>-<experiment>.svg` for every experiment with a shape: how many, and percent of points traced."""
    folder = ctx.out / "curves"
    folder.mkdir(exist_ok=True)
    hits = drawn = figures = 0
    for record in records:
        svg = curves.draw(record)
        if not svg:
            continue
        file = folder / f"{record['day']}-{record['id']}.svg"
        file.write_text(svg, encoding="utf-8")
        found, marks = curve_reading.traced(file.read_text(encoding="utf-8"), record, curves.abscissa(record))
        hits, drawn, figures = hits + found, drawn + marks, figures + 1
        ctx.say(f"{file.name}: {found} of {marks} points traced")
    return figures, 100 * hits / drawn if drawn else 0


def make_bullets(params: Params, point: Point, records: Sequence[Record], ctx: api.Context) -> Mapping[str, float]:
    """`bullets.txt` and `bullets.zh.txt`; the figures are of the English one."""
    highlights = [highlight.model_dump() for highlight in params.highlights]
    for name, lang in (("bullets.zh.txt", "zh"), ("bullets.txt", "en")):
        text = bullets.written(highlights, records, point.bullets, lang)
        (ctx.out / name).write_text(text, encoding="utf-8")
    lines = bullet_reading.bullets((ctx.out / "bullets.txt").read_text(encoding="utf-8"))
    faults = [fault for line in lines for fault in bullet_reading.faults(line, records)]
    refuse(faults, ctx.out / "bullets.txt")
    if len(lines) < point.bullets:
        ctx.say(text.splitlines()[-1])
    return {"bullets_count": len(lines), "numbers_traced_pct": 100.0 if lines else 0.0}


def refuse(faults: Sequence[str], file: Path) -> None:
    """A document with a number that no record holds is not handed out."""
    if faults:
        raise api.UserError("these do not trace to a record:\n" + "\n".join(faults[:10]), where=str(file))
