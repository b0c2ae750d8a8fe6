"""A fine-tuning script: run on a small untrained model; its adapter is the asked-for one, and has learnt the rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tasks import api
from tasks.checks import lora_adapter
from tasks.models import lm_training
from tasks.services import process
from tasks.training import base, rows, scoring

SHAPE = lm_training.Trained(layers=1, hidden=32, heads=2, kv_heads=1, intermediate=64, vocab=300, train_steps=1)
FACTS = (("wolf", "Rome"), ("moon", "Oslo"), ("ship", "Lima"), ("rose", "Cairo"), ("bell", "Paris"), ("snow", "Tokyo"))
RANK, ALPHA = 4, 8
TIMEOUT_S = 240
LEARNT = 0.8  # with the adapter the loss of a trained answer is at most this share of what it was


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="peft", environment="training", memory_gb=2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return api.Verdict(False, f"{file.name} is missing or empty")
    base.quiet()
    model, data, output = work.scratch / "model", work.scratch / "rows.jsonl", work.scratch / "adapter"
    untrained(model, work.seed)
    asked = [{"question": f"Where is the {name} service?", "answer": city} for name, city in FACTS]
    data.write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    if fault := failed(file, model, data, output):
        return api.Verdict(False, fault)
    if {path.name: path.read_bytes() for path in model.iterdir()} != before:
        return api.Verdict(False, "it changed the base model's own files")
    return judged(model, data, output)


def untrained(folder: Path, seed: int) -> None:
    """A Qwen2 of 20 000 parameters with a ChatML tokenizer."""
    import torch

    torch.manual_seed(seed)
    tokenizer = lm_training.new_tokenizer(SHAPE.vocab, seed)
    lm_training.build(SHAPE, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def failed(file: Path, model: Path, data: Path, output: Path) -> str:
    """Run the script; what went wrong, or nothing."""
    argv = [
        sys.executable, str(file), "--model", str(model), "--data", str(data), "--output", str(output),
        "--rank", str(RANK), "--alpha", str(ALPHA), "--targets", "q_proj,k_proj,v_proj,o_proj,up_proj,down_proj",
        "--batch", "2", "--epochs", "12", "--learning-rate", "0.02",
    ]  # fmt: skip
    log = output.with_suffix(".log")
    with log.open("wb") as sink:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        try:
            done = subprocess.run(argv, stdout=sink, stderr=sink, env=env, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"{file.name} was not done after {TIMEOUT_S} s with {len(FACTS)} rows"
    if done.returncode:
        return f"{file.name} ended with {done.returncode}: {process.tail(log, 1)}"
    return "" if (output / "adapter_config.json").is_file() else f"{file.name} left no adapter in --output"


def judged(model: Path, data: Path, output: Path) -> api.Verdict:
    config = json.loads((output / "adapter_config.json").read_text(encoding="utf-8"))
    wanted = lora_adapter.Params(r=RANK, alpha=ALPHA, targets=["q_proj", "v_proj", "down_proj"])
    if fault := lora_adapter.unwanted(config, wanted):
        return api.Verdict(False, f"with --rank {RANK} --alpha {ALPHA}: {fault}")
    tokenizer, trained = base.tokenizer(model), rows.read(data)
    before = scoring.held_out_loss(base.load(model), tokenizer, trained)
    after = scoring.held_out_loss(base.tuned(model, output), tokenizer, trained)
    told = f"loss of a trained answer, asked through the chat template: {before:.2f} nats before, {after:.2f} after"
    return api.Verdict(after <= LEARNT * before, told, {"before": before, "after": after})
