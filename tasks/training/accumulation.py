"""Kind `lora_accumulation`: a global batch cut into micro-batches: equal losses, less memory; weights frozen or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.training import base, rows, sft
from tasks.training.base import MIB, Recipe

METRICS = {
    "loss_max_diff": "largest difference of a step's loss from the same step with the whole batch at once",
    "loss_last": "mean loss of an answer token at the last step, nats",
    "weight_max_diff": "largest difference of a trained weight from the run with the whole batch at once",
    "steps_count": "optimizer steps",
    "step_ms": "wall time of an optimizer step, mean",
    "activations_mib": "tensors kept for the backward pass of one micro-batch, the largest",
    "gradients_mib": "gradients at the end of a step",
    "optimizer_mib": "optimizer state: AdamW keeps two float32 values for each trained parameter",
    "trainable_pct": "share of the parameters that are trained",
}


class Params(api.Params):
    """The first `rows` rows, once; the learning rate is small so that rounding does not grow from step to step."""

    data: str = "qa_dataset.jsonl"
    recipe: Recipe = Recipe()
    global_batch: int = Field(default=8, ge=2)
    rows: int = Field(default=80, ge=8)


class Point(api.Params):
    """`accumulate` micro-batches make a global batch; `trained`: the adapters, or all weights without adapters."""

    trained: Literal["lora", "all"] = "lora"
    accumulate: int = Field(default=1, ge=1)


def needs(params: Params) -> Sequence[api.Needs]:
    return base.rows_needs()


def run(params: Params, ctx: api.Context) -> None:
    base.quiet()
    chosen = rows.read(ctx.day / params.data)[: params.rows]
    folder = base.home(ctx, ctx.say)
    tokenizer = base.tokenizer(folder)
    whole: dict[str, tuple[sft.Trained, Any]] = {}

    def trained(kept: str, accumulate: int) -> tuple[sft.Trained, Any]:
        if params.global_batch % accumulate:
            raise api.UserError(f"a batch of {params.global_batch} cannot be cut into {accumulate}")
        cut = {"batch": params.global_batch // accumulate, "accumulate": accumulate, "epochs": 1}
        recipe = Recipe.model_validate({**params.recipe.model_dump(), **cut})
        model = base.load(folder)
        if kept == "lora":
            model = base.adapted(model, recipe, ctx.seed)
        return sft.train(
            model, tokenizer, chosen, recipe, ctx.scratch / f"{kept}{accumulate}", ctx.seed, ctx.say
        ), model

    for point in ctx.points:
        if point.trained not in whole:
            whole[point.trained] = trained(point.trained, 1)
        began = time.perf_counter()
        done, model = whole[point.trained] if point.accumulate == 1 else trained(point.trained, point.accumulate)
        ctx.say(f"accumulate={point.accumulate}: {time.perf_counter() - began:.1f} s")
        ctx.record(point, compared(done, model, *whole[point.trained]))


def compared(done: sft.Trained, model: Any, first: sft.Trained, first_model: Any) -> dict[str, float]:
    """The figures of one run beside those of the run that takes the whole batch at once."""
    taught, every = base.trainable(model)
    return {
        "loss_max_diff": max(abs(own - other) for own, other in zip(done.losses, first.losses, strict=True)),
        "loss_last": done.losses[-1], "weight_max_diff": apart(model, first_model), "steps_count": done.steps,
        "step_ms": 1e3 * done.seconds / done.steps, "activations_mib": done.use.activations / MIB,
        "gradients_mib": done.use.gradients / MIB, "optimizer_mib": done.use.optimizer / MIB,
        "trainable_pct": 100 * taught / every,
    }  # fmt: skip


def apart(one: Any, other: Any) -> float:
    """The largest difference between two models' trained weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in pairs if a.requires_grad)
