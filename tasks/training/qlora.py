"""Kind `lora_qlora`: the same LoRA recipe on a base kept whole and on one kept in 4 bits (NF4, double-quantized)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.models import device
from tasks.training import base, rows, scoring, sft
from tasks.training.base import MIB, Recipe

METRICS = {
    "base_weights_mib": "the base model's weights as they lie in memory while it is trained",
    "linear_weights_mib": "of these, the linear layers that NF4 applies to, with their quantization constants;"
    " `whole` has 32 bits for each weight on a CPU, 16 on a GPU",
    "optimizer_mib": "optimizer state (AdamW, adapters only)",
    "train_loss_last": "mean loss of an answer token over the last tenth of the steps, nats",
    "held_out_exact_match_pct": "held-out questions that are answered exactly after training",
    "held_out_loss": "negative log-likelihood of a held-out right answer after training, nats per answer",
    "train_s": "wall time of the training, its memory being counted",
}


class Params(api.Params):
    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    recipe: Recipe = Recipe()


class Point(api.Params):
    """`base`: the frozen weights at 16 bits (32 on a CPU), or in NF4."""

    base: Literal["whole", "nf4"] = "nf4"


def needs(params: Params) -> Sequence[api.Needs]:
    """QLoRA is made for a GPU; bitsandbytes' CPU code computes the same NF4 arithmetic."""
    settings = ("model",)
    gpu = api.Needs(backend="bitsandbytes CUDA", environment="training", gpus=1, memory_gb=3, settings=settings)
    return [gpu, replace(gpu, backend="bitsandbytes CPU", stand_in_for="bitsandbytes CUDA", gpus=0)]


def run(params: Params, ctx: api.Context) -> None:
    base.quiet()
    parts = rows.split(rows.read(ctx.day / params.data), params.held_out_pct, ctx.seed)
    folder = base.home(ctx, ctx.say)
    tokenizer = base.tokenizer(folder)
    for point in ctx.points:
        with device.spared(point, ctx):
            ctx.record(point, trained(folder, tokenizer, parts, point, params, ctx))


def trained(
    folder: Path, tokenizer: Any, parts: rows.Split, point: Point, params: Params, ctx: api.Context
) -> dict[str, float]:
    """Train adapters over one kind of base: its figures."""
    model = base.load(folder, four_bit=point.base == "nf4")
    linear = linear_bytes(model)
    model = base.adapted(model, params.recipe, ctx.seed)
    weights = base.weight_bytes(model)  # what stays whole in a 4-bit base is trained beside in 32 bits
    done = sft.train(model, tokenizer, parts.train, params.recipe, ctx.scratch / point.base, ctx.seed, ctx.say)
    return {
        "base_weights_mib": weights / MIB, "linear_weights_mib": linear / MIB,
        "optimizer_mib": done.use.optimizer / MIB, "train_loss_last": done.mean_loss(last=True),
        "held_out_loss": scoring.held_out_loss(model, tokenizer, parts.held_out),
        "held_out_exact_match_pct": scoring.exact_match_pct(model, tokenizer, parts.held_out),
        "train_s": done.seconds,
    }  # fmt: skip


def linear_bytes(model: Any) -> int:
    """Bytes of the linear layers inside the blocks: 4-bit values, their block scales and the scales' own scales."""
    import torch

    total = 0
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Linear) and "lm_head" not in name:
            total += part.weight.numel() * part.weight.element_size()
            state = getattr(part.weight, "quant_state", None)
            for kept in state.as_dict(packed=True).values() if state else ():
                total += kept.numel() * kept.element_size()
    return total
