"""Kind `lora_finetune`: SFT with LoRA on the learner's rows; each recipe's adapter is kept in the day's folder."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.models import device
from tasks.training import base, rows, scoring, sft
from tasks.training.base import MIB, Recipe

METRICS = {
    "trainable_parameters": "parameters that are trained: those of the adapters",
    "trainable_pct": "their share of all parameters",
    "steps_count": "optimizer steps",
    "train_loss_first": "mean loss of an answer token over the first tenth of the steps, nats",
    "train_loss_last": "the same over the last tenth",
    "held_out_loss": "negative log-likelihood of a held-out right answer after training, nats per answer",
    "held_out_exact_match_pct": "held-out questions that are answered exactly",
    "frozen_unchanged_ok": "1 when no base weight has changed by a bit",
    "optimizer_mib": "optimizer state (AdamW: two float32 values for each trained parameter)",
    "activations_mib": "tensors kept for the backward pass of one micro-batch, the largest",
    "adapter_kib": "the saved adapter's size",
    "train_s": "wall time of the training, its memory being counted",
}


class Params(api.Params):
    """`recipes` by name; `keep` is the recipe whose adapter is laid into the day's folder as `adapter`."""

    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    recipes: dict[str, Recipe] = Field(default_factory=lambda: {"source": Recipe()})
    keep: str = "source"
    adapter: str = "lora_adapter"


class Point(api.Params):
    """`recipe` is a name of `recipes`."""

    recipe: str = "source"


def needs(params: Params) -> Sequence[api.Needs]:
    return base.rows_needs()


def run(params: Params, ctx: api.Context) -> None:
    base.quiet()
    parts = rows.split(rows.read(ctx.day / params.data), params.held_out_pct, ctx.seed)
    folder = base.home(ctx, ctx.say)
    tokenizer = base.tokenizer(folder)
    for point in ctx.points:
        recipe = named(params.recipes, point.recipe)
        with device.spared(point, ctx):
            found, adapter = tuned(folder, tokenizer, parts, recipe, ctx, point.recipe)
            if point.recipe == params.keep:
                laid(adapter, ctx.day / params.adapter)
            ctx.record(point, found)


def named(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    if name not in recipes:
        raise api.UserError(f"there is no recipe {name!r}", remedy=f"the stanza has {', '.join(recipes)}")
    return recipes[name]


def tuned(
    folder: Path, tokenizer: Any, parts: rows.Split, recipe: Recipe, ctx: api.Context, name: str
) -> tuple[dict[str, float], Path]:
    """Train one recipe: its figures and the folder of its adapter."""
    model = base.adapted(base.load(folder), recipe, ctx.seed)
    before = frozen_sums(model)
    taught, every = base.trainable(model)
    done = sft.train(model, tokenizer, parts.train, recipe, ctx.scratch / name, ctx.seed, ctx.say)
    adapter = ctx.out / name
    model.save_pretrained(adapter)
    return {
        "trainable_parameters": taught, "trainable_pct": 100 * taught / every, "steps_count": done.steps,
        "train_loss_first": done.mean_loss(last=False), "train_loss_last": done.mean_loss(last=True),
        "held_out_loss": scoring.held_out_loss(model, tokenizer, parts.held_out),
        "held_out_exact_match_pct": scoring.exact_match_pct(model, tokenizer, parts.held_out),
        "frozen_unchanged_ok": frozen_sums(model) == before, "optimizer_mib": done.use.optimizer / MIB,
        "activations_mib": done.use.activations / MIB, "adapter_kib": base.folder_kib(adapter),
        "train_s": done.seconds,
    }, adapter  # fmt: skip


def frozen_sums(model: Any) -> dict[str, int]:
    """A checksum of the bits of every frozen weight."""
    import torch

    return {
        name: zlib.crc32(weight.detach().contiguous().flatten().view(torch.uint8).cpu().numpy())
        for name, weight in model.named_parameters()
        if not weight.requires_grad
    }


def laid(adapter: Path, target: Path) -> None:
    """Put the adapter where the later experiments and the check find it."""
    staged = target.with_name(f".{target.name}.staged")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(adapter, staged)
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
