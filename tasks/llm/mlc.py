"""MLC-LLM's route: weights converted, a library compiled, prompts generated; beside transformers' own generation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.models import device as gpu
from tasks.models import lm, quiz

TIMEOUT_S = 1200
PROMPTS = 8
TEMPLATE = "chatml_nosystem"  # ChatML as the prompts of `lm.asked` have it: plain `chatml` puts a system turn before


@dataclass(frozen=True)
class Generated:
    """The greedy answers to the prompts, and tokens for each second."""

    texts: list[str]
    rate: float


def prompts() -> list[str]:
    return [question.prompt for question in quiz.held_out(PROMPTS, 90)]


def compiled(folder: Path, work: Path, quantization: str, device: str, tokens: int) -> Generated:
    """Convert, compile and ask the model with MLC-LLM's own tools. UserError with their last words."""
    work.mkdir(parents=True, exist_ok=True)
    for argv in commands(folder, work, quantization, device):
        done(argv)
    plan = {
        "model": str(work / "model"), "library": str(work / f"model-{device}.so"), "device": device,
        "tokens": tokens, "prompts": prompts(),
    }  # fmt: skip
    file = work / "plan.json"
    file.write_text(json.dumps(plan), encoding="utf-8")
    said = json.loads(done([sys.executable, "-m", "tasks.llm.mlc_child", str(file)]).strip().splitlines()[-1])
    return Generated([text.strip() for text in said["texts"]], float(said["rate"]))


def commands(folder: Path, work: Path, quantization: str, device: str) -> list[list[str]]:
    """MLC-LLM's three steps: `convert_weight`, `gen_config`, `compile`."""
    tool, made = [sys.executable, "-m", "mlc_llm"], str(work / "model")
    how = ["--quantization", quantization]
    library = str(work / f"model-{device}.so")
    return [
        [*tool, "convert_weight", str(folder), *how, "--output", made],
        [*tool, "gen_config", str(folder), *how, "--conv-template", TEMPLATE, "--output", made],
        [*tool, "compile", f"{made}/mlc-chat-config.json", "--device", device, "--output", library],
    ]


def done(argv: Sequence[str]) -> str:
    """What the program prints. UserError when it fails or hangs."""
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"MLC-LLM was not done after {TIMEOUT_S} s", where=" ".join(argv[:4])) from error
    if ended.returncode:
        said = (ended.stderr or ended.stdout).strip().splitlines()[-5:]
        raise UserError("MLC-LLM failed: " + "\n".join(said), where=" ".join(argv[:4]))
    return ended.stdout


def eager(folder: Path, device: str, tokens: int) -> Generated:
    """transformers' greedy answers to the same chat prompts, in float32 as MLC-LLM's without quantization."""
    made = generated(folder, device, tokens)
    gpu.release()  # MLC-LLM's engine is another process
    return made


def generated(folder: Path, device: str, tokens: int) -> Generated:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").to(device).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    lm.answers(model, tokenizer, prompts()[:1], chat=True)
    began = time.perf_counter()
    texts = [lm.answers(model, tokenizer, [text], chat=True, max_new_tokens=tokens)[0] for text in prompts()]
    spent = time.perf_counter() - began
    made = sum(len(tokenizer(text)["input_ids"]) + 1 for text in texts)  # and the end of the turn
    return Generated([text.strip() for text in texts], made / spent)
