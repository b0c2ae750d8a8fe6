"""Kind `lora_accumulation`: a global batch cut into micro-batches: equal losses, less memory; weights frozen or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.models import device
from tasks.training import base, rows, sft
from tasks.training.base import MIB, Recipe

METRICS = {
    "loss_max_diff": "largest difference of a step's loss from the same step with the whole batch at once",
    "loss_last": "mean loss of an answer token at the last step, nats",
    "weight_max_diff": "largest difference of a trained weight from the run with the whole batch at once",
    "steps_count": "optimizer steps",
    "step_ms": "wall time of an optimizer step, its memory being counted: median, without the first",
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


@dataclass(frozen=True)
class Run:
    """A training, the weights that it trained (on the CPU), and their share of all, in percent."""

    done: sft.Trained
    weights: list[Any]
    trainable_pct: float


def needs(params: Params) -> Sequence[api.Needs]:
    return base.rows_needs()


def run(params: Params, ctx: api.Context) -> None:
    base.quiet()
    chosen = rows.read(ctx.day / params.data)[: params.rows]
    folder = base.home(ctx, ctx.say)
    whole: dict[str, Run] = {}
    for point in ctx.points:
        with device.spared(point, ctx):
            if point.trained not in whole:
                whole[point.trained] = trained(folder, chosen, Point(trained=point.trained), params, ctx)
            own = whole[point.trained] if point.accumulate == 1 else trained(folder, chosen, point, params, ctx)
            ctx.record(point, compared(own, whole[point.trained]))


def trained(folder: Path, chosen: Sequence[rows.Row], point: Point, params: Params, ctx: api.Context) -> Run:
    """One epoch over the rows, each global batch cut into `accumulate` micro-batches."""
    batch, left = divmod(params.global_batch, point.accumulate)
    if left:
        raise api.UserError(f"a batch of {params.global_batch} cannot be cut into {point.accumulate}")
    cut = {"batch": batch, "accumulate": point.accumulate, "epochs": 1}
    recipe = Recipe.model_validate({**params.recipe.model_dump(), **cut})
    model = base.load(folder)
    if point.trained == "lora":
        model = base.adapted(model, recipe, ctx.seed)
    scratch = ctx.scratch / f"{point.trained}{point.accumulate}"
    done = sft.train(model, base.tokenizer(folder), chosen, recipe, scratch, ctx.seed, ctx.say)
    taught, every = base.trainable(model)
    weights = [weight.detach().cpu() for weight in model.parameters() if weight.requires_grad]
    device.release()
    return Run(done, weights, 100 * taught / every)


def compared(own: Run, whole: Run) -> dict[str, float]:
    """The figures of one run beside those of the run that takes the whole batch at once."""
    done, first = own.done, whole.done
    pairs = zip(own.weights, whole.weights, strict=True)
    return {
        "loss_max_diff": max(abs(one - other) for one, other in zip(done.losses, first.losses, strict=True)),
        "loss_last": done.losses[-1], "weight_max_diff": max(float((a - b).abs().max()) for a, b in pairs),
        "steps_count": done.steps, "step_ms": done.step_ms, "activations_mib": done.use.activations / MIB,
        "gradients_mib": done.use.gradients / MIB, "optimizer_mib": done.use.optimizer / MIB,
        "trainable_pct": own.trainable_pct,
    }  # fmt: skip
