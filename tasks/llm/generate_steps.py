"""Kind `llm_generate_steps`: Hugging Face `generate()`, watched step by step.

Every call of the model inside `generate` is seen by a forward hook: how many tokens went in, how long the cache was,
how long the call took, what the model thought likeliest. The text that comes out must be what those calls chose.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import local
from tasks.models import device, lm, quiz
from tasks.services.timing import spread

REPEATS = 4
STEPS = "generate_steps_{cache}.csv"


class Params(api.Params):
    questions: int = Field(default=8, ge=1)  # held-out questions, each generated with
    tokens: int = Field(default=24, ge=2)  # at most
    prompt_tokens: int = Field(default=128, ge=1)  # of the timed generation
    forced: int = Field(default=96, ge=8)  # length of the continuation that is timed: no end before


class Point(api.Params):
    """`use_cache` of generate(): with it a step reads one token, without it all tokens so far."""

    cache: Literal["on", "off"] = "on"


METRICS = {
    "steps_count": "calls of the model in the timed generation: one for each new token",
    "first_step_tokens": "tokens that the first call reads: the prompt (prefill)",
    "last_step_tokens": "tokens that the last call reads (decode): 1 with a cache, everything so far without",
    "tokens_read": "tokens that all calls read together",
    "first_step_ms": "time of the first call (prefill)",
    "step_p50_ms": "median time of the later calls (decode)",
    "step_p95_ms": "95th percentile of the same",
    "last_over_second_ratio": "median time of the last eighth of the steps over that of the first after the prefill",
    "ttft_ms": "from calling generate() until its first call of the model had ended",
    "tpot_ms": "mean time between the ends of two calls: the call, generate()'s own work, and the watching",
    "output_tokens_per_s": "tokens generated per second",
    "cache_kib": "keys and values kept after the last step (0 without a cache), in KiB",
    "argmax_pct": "generated tokens that are the likeliest of their step's logits: greedy decoding is nothing else",
    "exact_match_pct": "held-out questions answered right by the same generate()",
}


@dataclass(frozen=True)
class Step:
    """One call of the model: tokens read, tokens cached before it, ms, its end (perf_counter), its likeliest token."""

    read: int
    cached: int
    ms: float
    ended: float
    best: int
    probability: float


def needs(params: Params) -> Sequence[api.Needs]:
    return [local.needs()]


def run(params: Params, ctx: api.Context) -> None:
    ctx.say("loading the model")
    model, tokenizer = local.load(ctx)
    questions = quiz.held_out(params.questions, ctx.seed)
    for point in ctx.points:
        texts = [local.text_ids(tokenizer, params.prompt_tokens, ctx.seed + number) for number in range(REPEATS)]
        with device.spared(point, ctx):
            right = answered(model, tokenizer, questions, params, point)
            watched(model, texts[0], params, point)  # warm-up
            record(ctx, point, right, [watched(model, ids, params, point) for ids in texts], tokenizer)


def answered(model: Any, tokenizer: Any, questions: Sequence[quiz.Question], params: Params, point: Point) -> float:
    """Exact match of generate()'s answers, in percent."""
    texts = []
    for question in questions:
        given = tokenizer(lm.asked(question.prompt, chat=False), return_tensors="pt").to(model.device)
        made = model.generate(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"], max_new_tokens=params.tokens,
            do_sample=False, use_cache=point.cache == "on",
        )  # fmt: skip
        texts.append(tokenizer.decode(made[0, given["input_ids"].shape[1] :], skip_special_tokens=True))
    return quiz.exact_match_pct(questions, texts)


@dataclass(frozen=True)
class Watched:
    """One generation: its steps, the new tokens, when it began, seconds in all, bytes of the cache at its end."""

    steps: list[Step]
    tokens: list[int]
    began: float
    seconds: float
    cache_bytes: int

    @property
    def ttft_ms(self) -> float:
        return (self.steps[0].ended - self.began) * 1000

    @property
    def tpot_ms(self) -> float:
        return (self.steps[-1].ended - self.steps[0].ended) * 1000 / (len(self.steps) - 1)


def watched(model: Any, ids: Any, params: Params, point: Point) -> Watched:
    """`generate` on a prompt (token ids, [1, n]), to a fixed length, with every call of the model seen."""
    import torch

    ids = ids.to(model.device)
    ends, model.generation_config.eos_token_id = model.generation_config.eos_token_id, None  # no token ends it
    try:
        with hooked(model) as steps:
            start = time.perf_counter()
            made = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=params.forced,
                use_cache=point.cache == "on", return_dict_in_generate=True,
            )  # fmt: skip
            seconds = time.perf_counter() - start
    finally:
        model.generation_config.eos_token_id = ends
    kept = local.stored_bytes(made.past_key_values) if made.past_key_values is not None else 0
    return Watched(steps, made.sequences[0, ids.shape[1] :].tolist(), start, seconds, kept)


@contextmanager
def hooked(model: Any) -> Iterator[list[Step]]:
    """Forward hooks on the model: `generate` itself stays as it is."""
    import torch

    steps: list[Step] = []
    began: list[tuple[float, int]] = []

    def before(_: Any, arguments: Any, named: dict[str, Any]) -> None:
        cache = named.get("past_key_values")
        began.append((time.perf_counter(), int(cache.get_seq_length()) if cache is not None else 0))

    def after(_: Any, arguments: Any, named: dict[str, Any], output: Any) -> None:
        if output.logits.is_cuda:
            torch.cuda.synchronize()
        (start, cached), ended = began[-1], time.perf_counter()
        likely, best = output.logits[0, -1].float().softmax(-1).max(-1)
        read = named["input_ids"].shape[1]
        steps.append(Step(read, cached, (ended - start) * 1000, ended, int(best), float(likely)))

    handles = [
        model.register_forward_pre_hook(before, with_kwargs=True),
        model.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()


def record(ctx: api.Context, point: Point, right: float, runs: Sequence[Watched], tokenizer: Any) -> None:
    eighth = max(1, len(runs[0].steps) // 8)
    early = spread([step.ms for run in runs for step in run.steps[1 : 1 + eighth]])
    late = spread([step.ms for run in runs for step in run.steps[-eighth:]])
    first = spread([run.steps[0].ms for run in runs])
    decode = spread([step.ms for run in runs for step in run.steps[1:]])
    ttft, tpot = spread([run.ttft_ms for run in runs]), spread([run.tpot_ms for run in runs])
    pairs = [(step.best, token) for run in runs for step, token in zip(run.steps, run.tokens, strict=True)]
    one = runs[0]
    keep_steps(ctx.out / STEPS.format(cache=point.cache), one, tokenizer)
    metrics = {
        "steps_count": len(one.steps), "first_step_tokens": one.steps[0].read, "last_step_tokens": one.steps[-1].read,
        "tokens_read": sum(step.read for step in one.steps), "first_step_ms": first.p50,
        "step_p50_ms": decode.p50, "step_p95_ms": decode.p95, "last_over_second_ratio": late.p50 / early.p50,
        "ttft_ms": ttft.p50, "tpot_ms": tpot.p50, "cache_kib": one.cache_bytes / 1024,
        "output_tokens_per_s": sum(len(run.tokens) for run in runs) / sum(run.seconds for run in runs),
        "argmax_pct": 100 * sum(best == token for best, token in pairs) / len(pairs), "exact_match_pct": right,
    }  # fmt: skip
    ctx.record(point, metrics, {"first_step_ms": first, "step_p50_ms": decode, "ttft_ms": ttft, "tpot_ms": tpot})


def keep_steps(file: Path, run: Watched, tokenizer: Any) -> None:
    """One generation, step by step, to read."""
    with file.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink)
        writer.writerow(["step", "phase", "tokens_read", "tokens_in_cache", "ms", "chosen", "text", "probability"])
        for number, (step, token) in enumerate(zip(run.steps, run.tokens, strict=True)):
            phase, text = "decode" if number else "prefill", tokenizer.decode([token])
            writer.writerow(
                [number, phase, step.read, step.cached, f"{step.ms:.3f}", token, text, f"{step.probability:.4f}"]
            )
