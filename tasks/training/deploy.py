"""Kind `lora_deploy`: the adapter merged into the weights, compared, and redeployed on a real vLLM that is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.models import device
from tasks.services import timing
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint
from tasks.training import base, rows, scoring
from tasks.training.rows import Row

METRICS = {
    "logits_max_abs_diff": "largest difference of a logit from the unmerged adapter's, over the held-out prompts",
    "tokens_equal_pct": "held-out prompts with the same greedy answer as the unmerged adapter (transformers)",
    "served_equal_pct": "held-out prompts that vLLM answers as transformers does with the same weights",
    "served_exact_match_pct": "held-out questions that vLLM answers exactly",
    "answer_p50_ms": "one question at a time through vLLM's chat API, with its own answer whole: the median"
    " (base and adapter share a server with LoRA switched on)",
    "weights_mib": "weights of this deployment on disk (base with adapter: both)",
}
ADAPTER = "tuned"
LENGTH = 512  # tokens of a conversation at the least


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
    local, tokens = locally(folder, adapter, merged, tokenizer, questions), scoring.room(tokenizer, questions)
    wanted, longest = {point.served: point for point in ctx.points}, tokens + prompt_tokens(tokenizer, questions)
    servers = {folder: [name for name in ("base", "adapter") if name in wanted], merged: [*{"merged"} & set(wanted)]}
    for model, names in servers.items():
        if not names:
            continue
        options = served(ctx, longest, adapter if model == folder else None)
        with vllm.serve(model, options, ctx.scratch / f"vllm-{names[0]}", ctx.say) as endpoint:
            for name in names:
                said, milliseconds = asked(endpoint, questions, tokens, name)
                disk = base.folder_kib(model) + (base.folder_kib(adapter) if name == "adapter" else 0)
                metrics, spread = compared(local[name], local["adapter"], questions, said, milliseconds)
                ctx.record(wanted[name], {**metrics, "weights_mib": disk / 1024}, {"answer_p50_ms": spread})


def prompt_tokens(tokenizer: Any, questions: Sequence[Row]) -> int:
    """Tokens of the longest question as the template writes it."""
    written = (tokenizer.apply_chat_template(list(row.prompt), add_generation_prompt=True, return_dict=True)
               for row in questions)  # fmt: skip
    return max(len(each["input_ids"]) for each in written)


def served(ctx: api.Context, longest: int, adapter: Path | None) -> vllm.Options:
    """float32 on a CPU, as transformers computes there, so that answers can be compared one by one."""
    gpu = device.name() == "cuda"
    return vllm.Options(
        max_model_len=max(LENGTH, longest), dtype="bfloat16" if gpu else "float32", max_num_seqs=8, gpu=gpu,
        kv_gb=None if gpu else 0.25, lora={ADAPTER: adapter} if adapter else {}, python=ctx.pythons.get("serving"),
        extra=("--max-lora-rank", str(rank_of(adapter))) if adapter else (),
    )  # fmt: skip


def rank_of(adapter: Path) -> int:
    """The least rank that vLLM knows and this adapter fits in."""
    rank = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"]
    return next(size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank)


def locally(folder: Path, adapter: Path, merged: Path, tokenizer: Any, questions: Sequence[Row]) -> dict[str, Local]:
    """Each deployment's answers by transformers; the merged model is written to `merged` with its tokenizer."""
    found = {"base": judged(base.load(folder), tokenizer, questions)}
    device.release()
    tuned = base.tuned(folder, adapter)
    found["adapter"] = judged(tuned, tokenizer, questions)
    tuned.merge_and_unload().save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    del tuned
    device.release()
    found["merged"] = judged(base.load(merged), tokenizer, questions)
    device.release()  # a server comes next
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
    plain = {"enable_thinking": False}  # as `base.tokenizer` writes the rows
    client.chat(endpoint, questions[0].prompt, tokens, model=model, chat_template_kwargs=plain)
    found = [client.chat(endpoint, row.prompt, tokens, model=model, chat_template_kwargs=plain) for row in questions]
    return [answer.text.strip() for answer in found], [1e3 * answer.seconds for answer in found]


def compared(
    own: Local, adapter: Local, questions: Sequence[Row], said: Sequence[str], milliseconds: Sequence[float]
) -> tuple[dict[str, float], api.Spread]:
    """A deployment's figures beside those of the adapter, and how its answers' times scatter."""
    times = timing.spread(milliseconds)
    return {
        "logits_max_abs_diff": float((own.logits - adapter.logits).abs().max()),
        "tokens_equal_pct": equal_pct(own.texts, adapter.texts),
        "served_equal_pct": equal_pct(said, own.texts),
        "served_exact_match_pct": scoring.matched_pct(questions, said),
        "answer_p50_ms": times.p50,
    }, times  # fmt: skip


def equal_pct(one: Sequence[str], other: Sequence[str]) -> float:
    return 100 * sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
