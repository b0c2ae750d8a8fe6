"""Kind `lora_compare`: the same held-out questions to the base model and to the tuned one, answers side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks import api
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
        model = base.load(folder) if point.model == "base" else base.tuned(folder, ctx.day / params.adapter)
        said = scoring.answered(model, tokenizer, parts.held_out)
        keep(ctx.out / f"answers_{point.model}.jsonl", parts.held_out, said)
        ctx.record(
            point,
            {
                "held_out_exact_match_pct": scoring.matched_pct(parts.held_out, said),
                "held_out_loss": scoring.held_out_loss(model, tokenizer, parts.held_out),
                "train_exact_match_pct": scoring.exact_match_pct(model, tokenizer, parts.train),
                "held_out_count": len(parts.held_out),
            },
        )


def keep(file: Path, questions: Sequence[rows.Row], said: Sequence[str]) -> None:
    lines = [
        {"question": row.question, "answer": row.answer, "said": text, "right": scoring.same(row.answer, text)}
        for row, text in zip(questions, said, strict=True)
    ]
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
