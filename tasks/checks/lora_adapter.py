"""A LoRA adapter: it fits the base model, has the wanted rank, and the right answers are far likelier with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.training import base, rows, scoring

ASKED = 40  # rows


class Params(api.Params):
    """With the adapter the loss of the held-out answers is at most `share` of the base model's.

    `model` is a folder beside the adapter to take for the base, in place of the settings' model.
    """

    r: int = 8
    alpha: int = 16
    targets: list[str] = Field(default_factory=lambda: ["q_proj", "v_proj"])
    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    share: float = Field(default=0.5, gt=0, lt=1)
    model: str = ""


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="peft", environment="training", memory_gb=2, settings=("model",))


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    base.quiet()
    try:
        config = json.loads((file / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return api.Verdict(False, f"adapter_config.json cannot be read: {error}")
    if fault := unwanted(config, params):
        return api.Verdict(False, fault)
    folder = file.parent / params.model if params.model else base.home(work, print)
    questions = rows.split(rows.read(file.parent / params.data), params.held_out_pct, work.seed).held_out[:ASKED]
    tokenizer = base.tokenizer(folder)
    before = scoring.held_out_loss(base.load(folder), tokenizer, questions)
    try:
        after = scoring.held_out_loss(base.tuned(folder, file), tokenizer, questions)
    except Exception as error:  # safetensors' and peft's own kinds of "this is no adapter"
        return api.Verdict(False, f"it cannot be put on the model: {str(error).splitlines()[0]}")
    evidence = {"loss_before": before, "loss_after": after, "questions": len(questions)}
    told = f"loss of a held-out answer {before:.2f} nats without, {after:.2f} with the adapter"
    if not after <= params.share * before:
        return api.Verdict(False, f"{told}: not below {params.share:g} of it", evidence)
    return api.Verdict(True, told, evidence)


def unwanted(config: dict[str, Any], params: Params) -> str:
    """What is not as asked for; empty when everything is."""
    kind, r, alpha = config.get("peft_type"), config.get("r"), config.get("lora_alpha")
    if kind != "LORA":
        return f"it is a {kind} adapter, not LORA"
    if (r, alpha) != (params.r, params.alpha):
        return f"r={r}, alpha={alpha} instead of r={params.r}, alpha={params.alpha}"
    absent = sorted(set(params.targets) - set(config.get("target_modules") or []))
    return f"{', '.join(absent)} is not adapted" if absent else ""
