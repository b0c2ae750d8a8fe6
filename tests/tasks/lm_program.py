"""Trains a very small language model in a model's environment and says what came of it: `lm_program.py FOLDER`."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.models import lm, lm_training, quiz

SHAPE = lm.Trained(
    layers=2, hidden=64, heads=2, kv_heads=1, intermediate=128, train_steps=1000, train_batch=16, learning_rate=0.004
)  # fmt: skip


def digest(folder: Path) -> str:
    """Of the weights and the tokenizer: what decides the answers."""
    files = ("model.safetensors", "tokenizer.json")
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in files)).hexdigest()


def short(folder: Path, seed: int) -> str:
    folder.mkdir()
    lm_training.train(folder, SHAPE.model_copy(update={"train_steps": 6}), seed, print)
    return digest(folder)


def main(work: Path) -> dict[str, Any]:
    folder = work / "model"
    folder.mkdir()
    lm_training.train(folder, SHAPE, 90, print)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    deep = AutoModelForCausalLM.from_pretrained(lm.deepened(folder, 5, work / "deep"))
    questions = quiz.held_out(40, 7, ["last_word", "facts"])
    prompts = [question.prompt for question in questions]
    templated = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompts[0], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        same = bool(torch.equal(model(ids).logits, deep(ids).logits))
    return {
        "plain_pct": quiz.exact_match_pct(questions, lm.answers(model, tokenizer, prompts)),
        "chat_pct": quiz.exact_match_pct(questions, lm.answers(model, tokenizer, prompts, chat=True)),
        "facts_pct": lm.facts(folder).exact_match_pct, "template": templated, "asked": lm.asked("Hi?", chat=True),
        "digits": tokenizer.tokenize("1234"), "same_logits": same, "shape": lm.describe(folder).model_dump(),
        "deep_layers": lm.describe(work / "deep").layers, "deep_tokenizer": (work / "deep/tokenizer.json").exists(),
        "repeats": [short(work / name, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))],
    }  # fmt: skip


if __name__ == "__main__":
    print("\n" + json.dumps(main(Path(sys.argv[1]))), flush=True)
