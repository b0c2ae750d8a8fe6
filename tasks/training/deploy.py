"""Kind `lora_deploy`: the adapter merged into the weights, compared, and redeployed on a real vLLM that is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint
from tasks.training import base, rows, scoring
from tasks.training.rows import Row

METRICS = {
    "logits_max_abs_diff": "largest difference of a logit from the unmerged adapter's, over the held-out prompts",
    "tokens_equal_pct": "held-out prompts with the same greedy answer as the unmerged adapter (transformers)",
    "served_equal_pct": "held-out prompts that vLLM answers as transformers does with the same weights",
    "served_exact_match_pct": "held-out questions that vLLM answers exactly",
    "answer_p50_ms": "one question at a time through vLLM's chat API: the median",
    "weights_mib": "weights of this deployment on disk (base with adapter: both)",
}
ADAPTER = "tuned"
LENGTH = 512


class Params(api.Params):
    data: str = "qa_dataset.jsonl"
    held_out_pct: int = Field(default=20, ge=1, le=50)
    adapter: str = "lora_adapter"


class Point(api.Params):
    """`served`: the base model, the base model with the adapter beside it, or the merged model."""

    served: Literal["base", "adapter", "merged"] = "merged"


@dataclass(frozen=True)
class Local:
    """What transformers says: the last position's logits of each prompt [prompts, vocabulary], and greedy answers."""

    logits: Any
    texts: list[str]


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(backend="peft + vLLM", environment="training", also=("serving",), memory_gb=6, settings=("model",))
    ]


def run(params: Params, ctx: api.Context) -> None:
    """The base model and the adapter are answered for by one server; the merged model by a second one."""
    base.quiet()
    questions = rows.split(rows.read(ctx.day / params.data), params.held_out_pct, ctx.seed).held_out
    folder = base.home(ctx, ctx.say)
    tokenizer, adapter, merged = base.tokenizer(folder), ctx.day / params.adapter, ctx.scratch / "merged"
    local = locally(folder, adapter, merged, tokenizer, questions)
    wanted = {point.served: point for point in ctx.points}
    servers = {folder: [name for name in ("base", "adapter") if name in wanted], merged: [*{"merged"} & set(wanted)]}
    for model, names in servers.items():
        if not names:
            continue
        lora = {ADAPTER: adapter} if "adapter" in names else {}
        with vllm.serve(model, options(ctx, lora, adapter), ctx.scratch / f"vllm-{names[0]}", ctx.say) as endpoint:
            for name in names:
                said, milliseconds = asked(endpoint, questions, scoring.room(tokenizer, questions), name)
                found = compared(local[name], local["adapter"], questions, said, milliseconds)
                disk = base.folder_kib(model) + (base.folder_kib(adapter) if name == "adapter" else 0)
                ctx.record(wanted[name], {**found.metrics, "weights_mib": disk / 1024}, found.spread)


def options(ctx: api.Context, lora: dict[str, Path], adapter: Path) -> vllm.Options:
    """float32 on a CPU, as transformers computes there, so that answers can be compared one by one."""
    gpu = base.device() == "cuda"
    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    ranks = ("--max-lora-rank", str(next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank)))
    return vllm.Options(
        max_model_len=LENGTH, dtype="bfloat16" if gpu else "float32", max_num_seqs=8, gpu=gpu,
        kv_gb=None if gpu else 0.25, lora=lora, extra=ranks if lora else (), python=ctx.pythons.get("serving"),
    )  # fmt: skip


def locally(folder: Path, adapter: Path, merged: Path, tokenizer: Any, questions: Sequence[Row]) -> dict[str, Local]:
    """Each deployment's answers by transformers; the merged model is written to `merged` with its tokenizer."""
    from transformers import AutoModelForCausalLM

    found = {"base": judged(base.load(folder), tokenizer, questions)}
    tuned = base.tuned(folder, adapter)
    found["adapter"] = judged(tuned, tokenizer, questions)
    tuned.merge_and_unload().save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    again = AutoModelForCausalLM.from_pretrained(merged, dtype=tuned.dtype, device_map=base.device())
    found["merged"] = judged(again.eval(), tokenizer, questions)
    return found


def judged(model: Any, tokenizer: Any, questions: Sequence[Row]) -> Local:
    import torch

    last = []
    for row in questions:
        ids = tokenizer.apply_chat_template(
            list(row.prompt), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"].to(model.device)
        with torch.inference_mode():
            last.append(model(input_ids=ids).logits[0, -1].float().cpu())
    return Local(torch.stack(last), scoring.answered(model, tokenizer, questions))


def asked(endpoint: Endpoint, questions: Sequence[Row], tokens: int, name: str) -> tuple[list[str], list[float]]:
    """vLLM's greedy answers through the chat API and the milliseconds of each, after one to warm up."""
    model = ADAPTER if name == "adapter" else endpoint.model
    client.chat(endpoint, questions[0].prompt, tokens, model=model)
    found = [client.chat(endpoint, row.prompt, tokens, model=model) for row in questions]
    return [answer.text.strip() for answer in found], [1e3 * answer.seconds for answer in found]


@dataclass(frozen=True)
class Compared:
    metrics: dict[str, float]
    spread: dict[str, api.Spread]


def compared(
    own: Local, adapter: Local, questions: Sequence[Row], said: Sequence[str], milliseconds: Sequence[float]
) -> Compared:
    import numpy as np

    p50, p95, p99 = map(float, np.percentile(milliseconds, (50, 95, 99)))
    spread = api.Spread(len(milliseconds), p50, p95, p99, float(np.std(milliseconds)))
    return Compared(
        {
            "logits_max_abs_diff": float((own.logits - adapter.logits).abs().max()),
            "tokens_equal_pct": equal_pct(own.texts, adapter.texts),
            "served_equal_pct": equal_pct(said, own.texts),
            "served_exact_match_pct": scoring.matched_pct(questions, said),
            "answer_p50_ms": p50,
        },
        {"answer_p50_ms": spread},
    )


def equal_pct(one: Sequence[str], other: Sequence[str]) -> float:
    return 100 * sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
