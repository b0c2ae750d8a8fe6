"""What longer texts cost: first token, each further token, and memory, with the learner's program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import Field

from tasks import api
from tasks.llm import growth, local, memory
from tasks.models import device
from tasks.services import program
from tasks.services.timing import spread

NAMES = ("prefill", "decode", "sized_text")
GROWTH = {"peak_memory_mib": "one pass over the text, at the highest",
          "chunked_peak_mib": "the same text in chunks", "cache_mib": "cache that is left"}  # fmt: skip


class Params(api.Params):
    program: str = "long_context_demo.py"
    chunk: int = Field(512, ge=1)
    new_tokens: int = Field(32, ge=2)
    repeats: int = Field(2, ge=1)
    memory: bool = False  # the memory is the subject, not the time


class Point(api.Params):
    tokens: int = Field(1024, ge=64)


METRICS = {
    "ttft_s": "time until the first token is known, in chunks (median of the repeats)",
    "tpot_ms": "time per further token at this length, median",
    "throughput_tokens_per_s": "tokens read and written per second of one request",
    "peak_memory_mib": "one pass over the text at the highest, above what the loaded model takes",
    "chunked_peak_mib": "the same in chunks",
    "cache_mib": "MiB that the cache holds after the text",
    "decode_share_pct": "share of a request's time that goes into its further tokens",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return local.on_device(memory_gb=4) if params.memory else [local.needs(memory_gb=4)]


def run(params: Params, ctx: api.Context) -> None:
    made = program.load(ctx.day / params.program, NAMES)
    model, tokenizer = local.load(ctx)
    made.prefill(model, local.text_ids(tokenizer, 256, ctx.seed).to(model.device), 128)  # warm
    for point in ctx.points:
        text = made.sized_text(tokenizer, point.tokens, local.text(ctx.seed))
        ids = local.counted(tokenizer, text, point.tokens).to(model.device)
        with device.spared(point, ctx):
            if params.memory:
                ctx.record(point, peaks(made, model, ids, params))
            else:
                ctx.record(point, *speed(made, model, ids, params))
    if params.memory:
        growth.draw(ctx, "tokens", GROWTH, "tokens of the text", "memory_curve.png")


def peaks(made: Any, model: Any, ids: Any, params: Params) -> dict[str, float]:
    (_, cache), whole = memory.peak_mib(lambda: made.prefill(model, ids), model.device)
    stored = local.stored_bytes(cache) / local.MIB
    del cache
    _, chunked = memory.peak_mib(lambda: made.prefill(model, ids, params.chunk), model.device)
    return {"peak_memory_mib": whole, "chunked_peak_mib": chunked, "cache_mib": stored}


def into(read: list[Any], made: Any, model: Any, ids: Any, chunk: int) -> None:
    read += made.prefill(model, ids, chunk)


def speed(made: Any, model: Any, ids: Any, params: Params) -> tuple[dict[str, float], dict[str, api.Spread]]:
    firsts, steps, rates, shares = [], [], [], []
    for _ in range(params.repeats):
        read: list[Any] = []  # (logits, cache)
        first = local.milliseconds(partial(into, read, made, model, ids, params.chunk), model.device)
        _, seconds = made.decode(model, *read, ids.shape[1], params.new_tokens)
        firsts.append(first / 1000)
        steps += [1000 * each for each in seconds]
        whole = first / 1000 + sum(seconds)
        rates.append((ids.shape[1] + params.new_tokens) / whole)
        shares.append(100 * sum(seconds) / whole)
    ttft, tpot, rate = spread(firsts), spread(steps), spread(rates)
    found = {"ttft_s": ttft.p50, "tpot_ms": tpot.p50, "throughput_tokens_per_s": rate.p50,
             "decode_share_pct": spread(shares).p50}  # fmt: skip
    return found, {"ttft_s": ttft, "tpot_ms": tpot, "throughput_tokens_per_s": rate}
