"""Decoding with and without a KV cache, by the learner's program: the same tokens, at what speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import local
from tasks.models import device
from tasks.services import program
from tasks.services.timing import spread

NAMES = ("generate", "full_cache")


class Params(api.Params):
    program: str = "kv_cache_test.py"
    prompt_tokens: int = Field(128, ge=8)
    new_tokens: int = Field(128, ge=8)
    repeats: int = Field(3, ge=1)


class Point(api.Params):
    kv_cache: Literal["off", "on"] = "on"


METRICS = {
    "tokens_per_s": "new tokens per second of one sequence, the prompt's pass included (median of the repeats)",
    "tpot_ms": "mean time per new token after the first, median of the repeats",
    "ttft_ms": "time to the first new token, median of the repeats",
    "tokens_equal": "1 when every token equals what transformers' own greedy generate gives, else 0",
    "slowdown_x": "time of the last quarter of the steps over that of the first quarter",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [local.needs()]


def run(params: Params, ctx: api.Context) -> None:
    made = program.load(ctx.day / params.program, NAMES)
    model, tokenizer = local.load(ctx)
    for point in ctx.points:
        with device.spared(point, ctx):
            runs, equal = repeated(made, model, tokenizer, params, point, ctx)
            ctx.record(point, *figures(runs, params, equal))


def repeated(
    made: Any, model: Any, tokenizer: Any, params: Params, point: Point, ctx: api.Context
) -> tuple[list[Any], bool]:
    """The repeats of a point, and whether all their tokens are the reference's."""
    runs, equal = [], True
    measure(made, model, prompt(model, tokenizer, params, ctx.seed, 0), 8, point)  # warm
    for turn in range(params.repeats):
        ids = prompt(model, tokenizer, params, ctx.seed, turn)
        runs.append(measure(made, model, ids, params.new_tokens, point))
        equal = equal and bool((runs[-1].tokens == reference(model, ids, params.new_tokens)).all())
        ctx.say(f"cache {point.kv_cache}, repeat {turn + 1}: {1000 * sum(runs[-1].step_s):.0f} ms of steps")
    return runs, equal


def prompt(model: Any, tokenizer: Any, params: Params, seed: int, turn: int) -> Any:
    """A different stretch of the text for every repeat."""
    stretch = local.text_ids(tokenizer, (turn + 1) * params.prompt_tokens, seed)
    return stretch[:, -params.prompt_tokens :].to(model.device)


def measure(made: Any, model: Any, ids: Any, new_tokens: int, point: Point) -> Any:
    return made.generate(model, ids, new_tokens, made.full_cache(model) if point.kv_cache == "on" else None)


def reference(model: Any, ids: Any, new_tokens: int) -> Any:
    """transformers' own greedy tokens, which do not stop at an end token."""
    import torch

    with torch.inference_mode():
        whole = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=new_tokens,
            max_new_tokens=new_tokens, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
    return whole[:, ids.shape[1] :]


def figures(runs: Sequence[Any], params: Params, equal: bool) -> tuple[dict[str, float], dict[str, api.Spread]]:
    rates = spread([params.new_tokens / (one.prefill_s + sum(one.step_s)) for one in runs])
    each = spread([1000 * sum(one.step_s) / len(one.step_s) for one in runs])
    first = spread([1000 * one.prefill_s for one in runs])
    quarter = max(1, len(runs[0].step_s) // 4)
    growth = spread([sum(one.step_s[-quarter:]) / sum(one.step_s[:quarter]) for one in runs])
    found = {"tokens_per_s": rates.p50, "tpot_ms": each.p50, "ttft_ms": first.p50, "tokens_equal": float(equal),
             "slowdown_x": growth.p50}  # fmt: skip
    return found, {"tokens_per_s": rates, "tpot_ms": each, "ttft_ms": first, "slowdown_x": growth}
