"""Kind `framework_report`: the comparison of LLM frameworks from records, and a picture of their architectures.

Numbers come from records only. What the frameworks are made of and the answers to the day's questions are the
learner's own notes, which are taken over as they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks import api
from tasks.documents import audit, framework_notes, framework_picture, measured_model, stored, tables
from tasks.documents.figures import cell, heading
from tasks.documents.stored import Record

DOCUMENT, PICTURE = "llm_frameworks_comparison.md", "architecture_comparison.svg"
METRICS = {
    "tables_count": "tables of results in the document, the comparison included",
    "rows_count": "rows of the tables, one for each point or metric",
    "numbers_traced_pct": "numbers in tables that were found again in the records, in percent",
    "panels_count": "architectures in the picture, each with the components that the document names",
}


class Params(api.Params):
    """`notes` is the learner's file; `comparison` the experiment with one point for each of the `frameworks`."""

    notes: str = "framework_notes.md"
    comparison: str = "framework-qps-latency"
    frameworks: Mapping[str, str] = {
        "vllm": "vLLM", "fastertransformer": "FasterTransformer", "tensorrt-llm": "TensorRT-LLM",
    }  # fmt: skip


class Point(api.Params):
    pass


def needs(params: Params) -> list[api.Needs]:
    return [api.Needs(backend="records", environment="runner", memory_gb=0.2)]


def run(params: Params, ctx: api.Context) -> None:
    records = [record for record in stored.load(ctx.records) if not record["variant"]]
    compared = next((record for record in records if record["id"] == params.comparison), None)
    if compared is None or not compared["rows"]:
        raise api.UserError("no framework was measured", remedy=f"run the experiment {params.comparison} first")
    records = framework_notes.measured(records, compared)
    notes = framework_notes.read(ctx.day / params.notes)
    text = document(params, compared, records, notes)
    found = audit.audit(text, records)
    if found.faults:
        raise api.UserError("these do not trace to a record:\n" + "\n".join(found.faults[:10]), where=params.notes)
    picture = framework_picture.draw(notes.architectures)
    (ctx.day / DOCUMENT).write_text(text, encoding="utf-8")
    (ctx.day / PICTURE).write_text(picture, encoding="utf-8")
    metrics = {
        "tables_count": len(records) + 1, "rows_count": found.rows, "numbers_traced_pct": found.traced_pct,
        "panels_count": len(framework_picture.panels(picture)),
    }  # fmt: skip
    ctx.record(Point(), metrics)


def document(params: Params, compared: Record, records: Sequence[Record], notes: framework_notes.Notes) -> str:
    parts = [
        "# LLM inference frameworks compared",
        "## What was run\n\n" + setting(compared),
        f"## Comparison\n\nFrom `{stored.name(compared)}`; each column head names what was really run.\n\n"
        + comparison(params.frameworks, compared).markdown(),
        *(f"## `{stored.name(record)}`\n\n{tables.results(record).markdown()}" for record in records),
        notes.text,
    ]
    return "\n\n".join(parts) + "\n"


def setting(record: Record) -> str:
    """Machine, model, prompts and versions of the comparison, as a list."""
    machine, params = record["machine"], record["stanza"].get("params", {})
    asked = (
        ", ".join(f"{name} {value}" for name, value in params.items() if name != "frameworks")
        or "as the kind's defaults"
    )
    versions = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
    gpus = ", ".join(str(gpu) for gpu in machine["gpus"]) or "no GPU"
    lines = [
        f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {gpus}",
        f"- model: {measured_model.words(record) or 'see the record'}; everybody gets the same weights",
        "- prompts: held-out questions of `tasks/models/quiz.py` as token ids, the same for all, greedy answers of"
        f" equal length; every engine's tokens were checked against the model before timing; load: {asked}",
        f"- versions: {versions or 'see the record'}",
    ]
    return "\n".join(lines)


def comparison(frameworks: Mapping[str, str], record: Record) -> tables.Table:
    """Metrics × frameworks. A stand-in is named in its column's head, a framework that was not run is marked there."""
    rows = {row["point"].get("framework"): row for row in record["rows"] if not row.get("blocked")}
    header = ["metric", *(head(name, title, rows.get(name)) for name, title in frameworks.items())]
    found = [rows[name]["metrics"] if name in rows else None for name in frameworks]
    body = [
        [heading(metric), *("–" if one is None else cell(metric, one.get(metric)) for one in found)]
        for metric in stored.metrics(record)
    ]
    return tables.Table(header, [False] + [True] * len(frameworks), body)


def head(name: str, title: str, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return f"{title} (not run)"
    ran = str(row.get("note", "")).partition(": ")[2]
    return ran if ran.startswith(title) else f"{title}: {ran} (stand-in)"
