"""Kind `lora_dpo`: direct preference optimization by trl on top of SFT: the right answer before a wrong one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.models import device
from tasks.training import base, rows, scoring, sft
from tasks.training.base import Recipe
from tasks.training.rows import Row

METRICS = {
    "preference_accuracy_pct": "held-out pairs of which the right answer is the likelier one",
    "margin_mean": "log-likelihood of the right answer less that of the wrong one, nats, mean over held-out pairs",
    "chosen_loss": "negative log-likelihood of a held-out right answer, nats, mean",
    "held_out_exact_match_pct": "held-out questions that are answered exactly",
}


class Params(api.Params):
    """SFT by `sft` first; then DPO by `recipe`, whose adapters are new ones on the merged result of the SFT.

    `beta`: how strongly DPO holds the model to where it started. `sft_weight` of the right answer's own loss is added
    in the stage `dpo_with_sft` (as RPO does: Pang et al. 2024).
    """

    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    sft: Recipe = Recipe()
    recipe: Recipe = Recipe()
    beta: float = Field(default=0.1, gt=0)
    sft_weight: float = Field(default=1.0, gt=0)


class Point(api.Params):
    """`stage`: the model after SFT, after DPO on top of it, or after DPO with the right answers' loss added."""

    stage: Literal["sft", "dpo", "dpo_with_sft"] = "dpo"


def needs(params: Params) -> Sequence[api.Needs]:
    return base.rows_needs()


def run(params: Params, ctx: api.Context) -> None:
    base.quiet()
    whole = rows.read(ctx.day / params.data)
    parts = rows.split(whole, params.held_out_pct, ctx.seed)
    rejected, wrong = wrong_answers(parts.train, parts.train, ctx.seed), wrong_answers(parts.held_out, whole, ctx.seed)
    folder = base.home(ctx, ctx.say)
    tokenizer, start = base.tokenizer(folder), ctx.scratch / "start"
    begin(folder, tokenizer, parts, params, start, ctx)
    device.release()
    for point in ctx.points:
        with device.spared(point, ctx):
            chosen = pairs(parts.train, rejected)
            ctx.record(point, preferences(
                preferring(start, tokenizer, chosen, params, point.stage, ctx), tokenizer, parts.held_out, wrong
            ))  # fmt: skip


def begin(folder: Path, tokenizer: Any, parts: rows.Split, params: Params, start: Path, ctx: api.Context) -> None:
    """The model after SFT, its adapters merged, written to `start`."""
    model = base.adapted(base.load(folder), params.sft, ctx.seed)
    sft.train(model, tokenizer, parts.train, params.sft, ctx.scratch / "sft", ctx.seed, ctx.say)
    model.merge_and_unload().save_pretrained(start)


def wrong_answers(asked: Sequence[Row], among: Sequence[Row], seed: int) -> dict[int, str]:
    """For each row of `asked` (by line) another answer of the rows `among`, of its own topic where that has one."""
    of_topic: dict[str | None, set[str]] = {}
    for row in among:
        of_topic.setdefault(row.topic, set()).add(row.answer)
    every, rng, found = set().union(*of_topic.values()), random.Random(seed), {}
    for row in asked:
        others = of_topic.get(row.topic, set()) - {row.answer} or every - {row.answer}
        if not others:
            raise api.UserError(f"line {row.line}: no other row has another answer", remedy="add rows")
        found[row.line] = rng.choice(sorted(others))
    return found


def pairs(chosen: Sequence[Row], wrong: dict[int, str]) -> list[dict[str, Any]]:
    """Rows in trl's conversational preference form."""
    return [
        {**given, "chosen": given.pop("completion"), "rejected": [{"role": "assistant", "content": wrong[row.line]}]}
        for row, given in zip(chosen, rows.conversations(chosen), strict=True)
    ]


def preferring(
    start: Path, tokenizer: Any, chosen: list[dict[str, Any]], params: Params, stage: str, ctx: api.Context
) -> Any:
    """The model of `start`; with DPO on top of it where the stage has one."""
    model = base.load(start)
    if stage == "sft":
        return model
    model = base.adapted(model, params.recipe, ctx.seed)
    prefer(model, tokenizer, chosen, params, stage, ctx)
    return model


def prefer(
    model: Any, tokenizer: Any, chosen: list[dict[str, Any]], params: Params, stage: str, ctx: api.Context
) -> None:
    """Train the adapters in place; the reference is the same model with its adapters switched off."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    recipe = params.recipe
    losses = {"sigmoid": 1.0, **({"sft": params.sft_weight} if stage == "dpo_with_sft" else {})}
    config = DPOConfig(
        output_dir=str(ctx.scratch / stage), per_device_train_batch_size=recipe.batch, beta=params.beta,
        loss_type=list(losses), loss_weights=list(losses.values()),
        num_train_epochs=recipe.epochs, gradient_accumulation_steps=recipe.accumulate, seed=ctx.seed,
        learning_rate=recipe.learning_rate, max_length=None, logging_steps=50, save_strategy="no", report_to="none",
        disable_tqdm=True, gradient_checkpointing=False, bf16=device.name() == "cuda",
        use_cpu=device.name() == "cpu", dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = DPOTrainer(model=model, args=config, train_dataset=Dataset.from_list(chosen), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def preferences(model: Any, tokenizer: Any, held_out: Sequence[Row], wrong: dict[int, str]) -> dict[str, float]:
    right = scoring.answer_losses(model, tokenizer, held_out)
    other = scoring.answer_losses(model, tokenizer, [replace(row, answer=wrong[row.line]) for row in held_out])
    margins = [bad - good for good, bad in zip(right, other, strict=True)]
    return {
        "preference_accuracy_pct": 100 * sum(margin > 0 for margin in margins) / len(margins),
        "margin_mean": sum(margins) / len(margins),
        "chosen_loss": sum(right) / len(right),
        "held_out_exact_match_pct": scoring.exact_match_pct(model, tokenizer, held_out),
    }
