"""What a cache keeps, and what that costs: everything, a window, a fixed slab, or fewer bits.

Full and sliding caches are the learner's; static and quantized ones are transformers' (the latter by HQQ). Quality is
the share of positions of a given text at which the next token is that of the full cache, teacher-forced, over the
positions at which the policy can matter at all (those further in than the window, or after the prompt).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import local
from tasks.models import device
from tasks.services import program
from tasks.services.timing import spread

NAMES = ("generate", "score", "full_cache", "sliding_cache")
BITS = {"quantized_4bit": 4, "quantized_2bit": 2}


class Params(api.Params):
    program: str = "kv_cache_test.py"
    window: int = Field(256, ge=1)  # of the sliding cache, where the points do not say
    prompt_tokens: int = Field(512, ge=8)
    new_tokens: int = Field(64, ge=8)
    batch: int = Field(4, ge=1)
    repeats: int = Field(3, ge=1)
    text_tokens: int = Field(1280, ge=16)  # of the text on which the quality is found


class Point(api.Params):
    cache: Literal["full", "sliding", "static", "quantized_4bit", "quantized_2bit"] = "sliding"
    window: int = Field(0, ge=0)  # 0: the parameter's


METRICS = {
    "tokens_per_s": "new tokens per second of all sequences of the batch, the prompts' pass included (median)",
    "tpot_p50_ms": "time of a decoding step of the batch, median",
    "tpot_p99_ms": "time of a decoding step of the batch, 99th percentile",
    "cache_bytes": "bytes that the cache holds at the end, scales and spare slots included",
    "token_agreement_pct": "positions of a given text whose next token is that of the full cache",
    "perplexity": "of that text under this cache, over the same positions",
    "perplexity_full": "of that text under the full cache, over the same positions",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [local.needs()]


def run(params: Params, ctx: api.Context) -> None:
    made = program.load(ctx.day / params.program, NAMES)
    model, tokenizer = local.load(ctx)
    given = local.text_ids(tokenizer, params.text_tokens, ctx.seed).to(model.device)
    truth = made.score(model, given, made.full_cache(model), params.text_tokens)
    for point in ctx.points:
        ctx.say(f"{point.cache} cache, window {window(point, params)}")
        with device.spared(point, ctx):
            found, spreads = speed(made, model, tokenizer, params, point, ctx.seed)
            ctx.record(point, {**found, **quality(made, model, given, truth, params, point)}, spreads)


def window(point: Point, params: Params) -> int:
    return point.window or params.window


def new_cache(made: Any, model: Any, params: Params, point: Point, tokens: int) -> Any:
    """An empty cache of the point's policy, for `tokens` tokens at most."""
    if point.cache == "full":
        return made.full_cache(model)
    if point.cache == "sliding":
        return made.sliding_cache(model, window(point, params))
    from transformers import QuantizedCache, StaticCache

    if point.cache == "static":
        return StaticCache(config=model.config, max_cache_len=tokens)
    return QuantizedCache(
        "hqq", model.config, nbits=BITS[point.cache], axis_key=1, axis_value=1, q_group_size=32, residual_length=64
    )


def speed(
    made: Any, model: Any, tokenizer: Any, params: Params, point: Point, seed: int
) -> tuple[dict[str, float], dict[str, api.Spread]]:
    """A batch of prompts continued, with other prompts in every repeat."""
    rates, steps, stored = [], [], 0
    whole = params.prompt_tokens + params.new_tokens
    for turn in range(params.repeats + 1):
        text = local.text_ids(tokenizer, (turn + 1) * params.batch * params.prompt_tokens, seed)
        ids = text[0, -params.batch * params.prompt_tokens :].view(params.batch, -1).to(model.device)
        cache = new_cache(made, model, params, point, whole)
        answer = made.generate(model, ids, params.new_tokens if turn else 8, cache)
        if not turn:
            continue  # the first only warms up
        rates.append(params.batch * params.new_tokens / (answer.prefill_s + sum(answer.step_s)))
        steps += [1000 * each for each in answer.step_s]
        stored = local.stored_bytes(cache)
    rate, step = spread(rates), spread(steps)
    found = {"tokens_per_s": rate.p50, "tpot_p50_ms": step.p50, "tpot_p99_ms": step.p99, "cache_bytes": float(stored)}
    return found, {"tokens_per_s": rate, "tpot_p50_ms": step, "tpot_p99_ms": step}


def quality(made: Any, model: Any, given: Any, truth: Any, params: Params, point: Point) -> dict[str, float]:
    """Agreement with the full cache and perplexity, over the positions that come after the first `prompt_tokens`.

    The text is fed in two: at once as far as a prompt goes, then token by token, as in generation.
    """
    import torch

    tokens, head = params.text_tokens, params.prompt_tokens
    cache = new_cache(made, model, params, point, tokens)
    made.score(model, given[:, :head], cache, head)
    logits = made.score(model, given[:, head:], cache, 1)[0]
    whole, follows = truth[0, head:], given[0, head + 1 :]
    agreed = (logits.argmax(-1) == whole.argmax(-1)).float().mean().item()
    losses = [torch.nn.functional.cross_entropy(each[:-1], follows) for each in (logits, whole)]
    mine, full = (float(torch.exp(loss)) for loss in losses)
    return {"token_agreement_pct": 100 * agreed, "perplexity": mine, "perplexity_full": full}
