"""A long text read whole, in chunks, or through a window, by the learner's program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import local, memory
from tasks.models import device
from tasks.services import program
from tasks.services.timing import spread

NAMES = ("prefill", "all_logits", "perplexity", "sized_text")


class Params(api.Params):
    program: str = "long_context_demo.py"
    tokens: int = Field(4096, ge=64)
    chunk: int = Field(512, ge=1)  # of a run with a window, where the points do not say
    repeats: int = Field(3, ge=1)


class Point(api.Params):
    chunk: int = Field(0, ge=0)  # 0: the whole text at once, unless there is a window
    window: int | Literal["full"] = "full"


METRICS = {
    "ttft_s": "time until the logits after the last token are there (median of the repeats)",
    "one_pass_ttft_s": "the same for the whole text in one pass, taken by turns with it",
    "peak_memory_mib": "working memory and cache at the highest, above what the loaded model takes",
    "one_pass_peak_mib": "the same for one pass",
    "max_logit_diff": "largest difference of any logit of the text from one pass over it",
    "perplexity": "of the text, teacher-forced",
    "cache_mib": "MiB that the cache holds at the end",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [local.needs()]


def run(params: Params, ctx: api.Context) -> None:
    made = program.load(ctx.day / params.program, NAMES)
    model, tokenizer = local.load(ctx)
    text = made.sized_text(tokenizer, params.tokens, local.text(ctx.seed))
    ids = local.counted(tokenizer, text, params.tokens).to(model.device)
    whole = made.all_logits(model, ids)
    for point in ctx.points:
        chunk, window = ways(point, params)
        ctx.say(f"chunk {chunk or 'whole'}, window {window or 'full'}")
        with device.spared(point, ctx):
            same = compared(made, model, ids, whole, chunk, window)
            costs, spreads = measured(made, model, ids, chunk, window, params)
            ctx.record(point, {**same, **costs}, spreads)


def ways(point: Point, params: Params) -> tuple[int | None, int | None]:
    """(chunk, window) as the program takes them."""
    window = None if point.window == "full" else point.window
    return point.chunk or (params.chunk if window else None), window


def compared(made: Any, model: Any, ids: Any, whole: Any, chunk: int | None, window: int | None) -> dict[str, float]:
    """What the way of reading changes: `whole` are the logits of one pass."""
    logits = made.all_logits(model, ids, chunk, window)
    return {"max_logit_diff": float((logits - whole).abs().max()), "perplexity": made.perplexity(logits, ids)}


def measured(
    made: Any, model: Any, ids: Any, chunk: int | None, window: int | None, params: Params
) -> tuple[dict[str, float], dict[str, api.Spread]]:
    """Times by turns with one pass, and peaks of memory."""
    times: dict[str, list[float]] = {"ttft_s": [], "one_pass_ttft_s": []}
    for _ in range(params.repeats):
        times["ttft_s"].append(local.milliseconds(lambda: made.prefill(model, ids, chunk, window), model.device) / 1000)
        times["one_pass_ttft_s"].append(local.milliseconds(lambda: made.prefill(model, ids), model.device) / 1000)
    (_, cache), peak = memory.peak_mib(lambda: made.prefill(model, ids, chunk, window), model.device)
    stored = local.stored_bytes(cache) / local.MIB
    del cache
    _, one_pass = memory.peak_mib(lambda: made.prefill(model, ids), model.device)
    spreads = {name: spread(values) for name, values in times.items()}
    medians = {name: one.p50 for name, one in spreads.items()}
    return {**medians, "cache_mib": stored, "peak_memory_mib": peak, "one_pass_peak_mib": one_pass}, spreads
