"""Kind `lora_forgetting`: what the tuned model no longer knows, and how replayed rows of the old tasks cure it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.models import device, lm, quiz
from tasks.training import base, rows, scoring, sft
from tasks.training.base import Recipe
from tasks.training.rows import Row

METRICS = {
    "new_exact_match_pct": "held-out questions of the new domain that are answered exactly",
    "old_exact_match_pct": "held-out questions of the old tasks, `tasks.models.quiz`, that are answered right",
    "forgotten_pct": "of what the base model answered right, the share that is lost",
    "steps_count": "optimizer steps: replayed rows are trained on too, and cost steps",
    "train_s": "wall time of the training, its memory being counted",
}


class Params(api.Params):
    """`old` held-out questions of the old tasks tell what is left of them; a hub's model brings them along untaught."""

    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    recipe: Recipe = Recipe()
    old: int = Field(default=140, ge=7)


class Point(api.Params):
    """`replay_pct`: replayed rows for each 100 new ones; -1 is the base model, not tuned at all."""

    replay_pct: int = Field(default=0, ge=-1)


@dataclass(frozen=True)
class Old:
    """Questions of the old tasks, and which of them the base model answers right."""

    questions: Sequence[quiz.Question]
    known: Sequence[bool]


def needs(params: Params) -> Sequence[api.Needs]:
    return base.rows_needs()


def run(params: Params, ctx: api.Context) -> None:
    base.quiet()
    parts = rows.split(rows.read(ctx.day / params.data), params.held_out_pct, ctx.seed)
    folder = base.home(ctx, ctx.say)
    tokenizer = base.tokenizer(folder)
    questions = worded(folder, quiz.held_out(params.old, ctx.seed))
    old = Old(questions, scoring.old_skills(base.load(folder), tokenizer, questions))
    device.release()
    for point in ctx.points:
        with device.spared(point, ctx):
            ctx.record(point, tuned(folder, tokenizer, parts, old, point, params, ctx))


def worded(folder: Path, questions: Iterable[quiz.Question]) -> list[quiz.Question]:
    """The questions as they are put to this model."""
    return [replace(question, prompt=lm.worded(folder, question.prompt)) for question in questions]


def tuned(
    folder: Path, tokenizer: Any, parts: rows.Split, old: Old, point: Point, params: Params, ctx: api.Context
) -> dict[str, float]:
    """Train with so much replay (or not at all): what the model can do of the new and of the old."""
    model, steps, seconds = base.load(folder), 0, 0.0
    if point.replay_pct >= 0:
        model = base.adapted(model, params.recipe, ctx.seed)
        mixed = with_replay(parts.train, point.replay_pct, folder, ctx.seed)
        scratch = ctx.scratch / str(point.replay_pct)
        done = sft.train(model, tokenizer, mixed, params.recipe, scratch, ctx.seed, ctx.say)
        steps, seconds = done.steps, done.seconds
    left = scoring.old_skills(model, tokenizer, old.questions)
    return {
        "new_exact_match_pct": scoring.exact_match_pct(model, tokenizer, parts.held_out),
        "old_exact_match_pct": 100 * sum(left) / len(left),
        "forgotten_pct": lost_pct(old.known, left), "steps_count": steps, "train_s": seconds,
    }  # fmt: skip


def lost_pct(known: Sequence[bool], left: Sequence[bool]) -> float:
    """Of the questions that were answered right, the share that no longer are, in percent."""
    kept = [after for before, after in zip(known, left, strict=True) if before]
    if not kept:
        raise api.UserError("the base model answers none of its questions", remedy="choose a model that knows them")
    return 100 * (len(kept) - sum(kept)) / len(kept)


def with_replay(new: Sequence[Row], pct: int, folder: Path, seed: int) -> list[Row]:
    """The new rows and `pct` percent as many training questions of the old tasks, in random order."""
    questions = worded(folder, islice(quiz.training(seed), len(new) * pct // 100))
    old = [Row(0, ({"role": "user", "content": each.prompt},), each.answer) for each in questions]
    mixed = [*new, *old]
    random.Random(seed).shuffle(mixed)
    return mixed
