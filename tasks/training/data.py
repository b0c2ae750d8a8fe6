"""Kind `finetune_data`: the learner's own rows validated, split, and written by the model's chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.training import base, rows
from tasks.training.rows import Row

METRICS = {
    "rows_count": "rows of this part",
    "topics_count": "different topics that its rows name",
    "tokens_p50": "tokens of a row as the template writes it: the median",
    "tokens_max": "tokens of the longest row",
    "answer_tokens_mean": "tokens of a row that the loss is taken on: the answer and its end, mean",
    "template_ok": "1 when every row, written by the template and read back, has the question and the answer whole",
    "overlap_rows_count": "rows whose question is, but for case and spacing, in the other part too",
}


class Params(api.Params):
    """`data` is a JSONL file of the day's folder (or an absolute path); `least` rows are asked for."""

    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    least: int = Field(default=200, ge=10)


class Point(api.Params):
    """`part` of the split."""

    part: Literal["train", "held_out"] = "train"


def needs(params: Params) -> Sequence[api.Needs]:
    return base.rows_needs("transformers tokenizer")


def run(params: Params, ctx: api.Context) -> None:
    """Writes `<part>.jsonl` and, as the model will read them, `<part>.chatml.txt` beside the record."""
    base.quiet()
    source = ctx.day / params.data
    whole = rows.read(source)
    if len(whole) < params.least:
        raise api.UserError(
            f"{len(whole)} rows, and {params.least} are asked for", where=str(source), remedy="write more rows"
        )
    folder = base.home(ctx, ctx.say)
    tokenizer = base.tokenizer(folder)
    parts = rows.split(whole, params.held_out_pct, ctx.seed)
    for point in ctx.points:
        own, other = (parts.train, parts.held_out) if point.part == "train" else (parts.held_out, parts.train)
        written = [templated(tokenizer, row) for row in own]
        keep(ctx.out / point.part, own, written)
        ctx.record(point, {**measured(tokenizer, own, written, folder, source), **counted(own, other)})


def templated(tokenizer: Any, row: Row) -> tuple[str, str]:
    """What the model is given and what it must add, as the chat template writes them."""
    head = tokenizer.apply_chat_template(list(row.prompt), add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([*row.prompt, {"role": "assistant", "content": row.answer}], tokenize=False)
    if not whole.startswith(head):
        raise api.UserError(
            f"line {row.line}: the template writes the question otherwise once the answer follows",
            remedy="the loss could not be taken on the answer alone; use a template that only appends, as ChatML does",
        )
    return head, whole[len(head) :]


def measured(
    tokenizer: Any, own: Sequence[Row], written: Sequence[tuple[str, str]], folder: Path, source: Path
) -> dict[str, float]:
    """Token counts, and whether the tokens read back to the very text; a row longer than the model is refused."""
    import numpy as np
    from transformers import AutoConfig

    heads = [tokenizer(head, add_special_tokens=False)["input_ids"] for head, _ in written]
    wholes = [tokenizer(head + tail, add_special_tokens=False)["input_ids"] for head, tail in written]
    lengths = np.array([len(ids) for ids in wholes])
    most = AutoConfig.from_pretrained(folder).max_position_embeddings
    for row, length in zip(own, lengths, strict=True):
        if length > most:
            raise api.UserError(
                f"{length} tokens, and the model reads {most}", where=f"{source}:{row.line}", remedy="shorten this row"
            )
    read_back = [tokenizer.decode(ids, skip_special_tokens=False) for ids in wholes]
    whole = all(
        row.question in text and row.answer in text and text == head + tail
        for row, text, (head, tail) in zip(own, read_back, written, strict=True)
    )
    answered = lengths - np.array([len(ids) for ids in heads])
    return {
        "tokens_p50": float(np.median(lengths)), "tokens_max": float(lengths.max()),
        "answer_tokens_mean": float(answered.mean()), "template_ok": whole,
    }  # fmt: skip


def counted(own: Sequence[Row], other: Sequence[Row]) -> dict[str, float]:
    asked = {rows.plain(row.question) for row in other}
    return {
        "rows_count": len(own),
        "topics_count": len({row.topic for row in own if row.topic}),
        "overlap_rows_count": sum(rows.plain(row.question) in asked for row in own),
    }


def keep(stem: Path, own: Sequence[Row], written: Sequence[tuple[str, str]]) -> None:
    """The part's rows as trl reads them, and as the model reads them."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows.conversations(own))
    stem.with_suffix(".jsonl").write_text("".join(lines), encoding="utf-8")
    stem.with_suffix(".chatml.txt").write_text("\n".join(head + tail for head, tail in written), encoding="utf-8")
