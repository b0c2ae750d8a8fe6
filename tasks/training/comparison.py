"""Kind `lora_compare`: the same held-out questions to the base model and to the tuned one, answers side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.models import device
from tasks.training import base, rows, scoring

METRICS = {
    "held_out_exact_match_pct": "held-out questions that are answered exactly",
    "held_out_loss": "negative log-likelihood of a held-out right answer, nats per answer",
    "train_exact_match_pct": "trained questions that are answered exactly: far above held_out means learnt by heart",
    "held_out_count": "held-out questions",
}


class Params(api.Params):
    """`adapter` is a trained adapter's folder in the day's folder."""

    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    adapter: str = "lora_adapter"


class Point(api.Params):
    model: Literal["base", "tuned"] = "tuned"


def needs(params: Params) -> Sequence[api.Needs]:
    return base.rows_needs("transformers + peft")


def run(params: Params, ctx: api.Context) -> None:
    """Writes `answers_<model>.jsonl`: question, right answer, what was said, whether that is right."""
    base.quiet()
    parts = rows.split(rows.read(ctx.day / params.data), params.held_out_pct, ctx.seed)
    folder = base.home(ctx, ctx.say)
    tokenizer = base.tokenizer(folder)
    for point in ctx.points:
        with device.spared(point, ctx):
            adapter = None if point.model == "base" else ctx.day / params.adapter
            ctx.record(point, asked(folder, adapter, tokenizer, parts, ctx.out / f"answers_{point.model}.jsonl"))


def asked(folder: Path, adapter: Path | None, tokenizer: Any, parts: rows.Split, file: Path) -> dict[str, float]:
    """The figures of a model with or without an adapter; its answers to the held-out questions go to `file`."""
    model = base.tuned(folder, adapter) if adapter else base.load(folder)
    said = scoring.answered(model, tokenizer, parts.held_out)
    keep(file, parts.held_out, said)
    return {
        "held_out_exact_match_pct": scoring.matched_pct(parts.held_out, said),
        "held_out_loss": scoring.held_out_loss(model, tokenizer, parts.held_out),
        "train_exact_match_pct": scoring.exact_match_pct(model, tokenizer, parts.train),
        "held_out_count": len(parts.held_out),
    }


def keep(file: Path, questions: Sequence[rows.Row], said: Sequence[str]) -> None:
    lines = [
        {"question": row.question, "answer": row.answer, "said": text, "right": scoring.same(row.answer, text)}
        for row, text in zip(questions, said, strict=True)
    ]
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
