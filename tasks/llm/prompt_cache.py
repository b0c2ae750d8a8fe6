"""One trace of prompts, answered with and without the learner's prompt cache: the same tokens, sooner or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import local
from tasks.models import device
from tasks.services import program
from tasks.services.timing import spread

NAMES = ("PromptCache", "fingerprint", "answer", "trace")


class Params(api.Params):
    program: str = "prompt_cache_demo.py"
    hit_rate_pct: int = Field(90, ge=0, le=100)  # of the trace, where the points do not say
    requests: int = Field(40, ge=2)
    prefix_tokens: int = Field(512, ge=32)
    suffix_tokens: int = Field(32, ge=1)
    new_tokens: int = Field(8, ge=1)
    max_prompts: float = Field(16, gt=0)  # the cache's memory bound: so many prompts' keys and values
    repeats: int = Field(2, ge=1)


class Point(api.Params):
    cache: Literal["off", "on"] = "on"
    hit_rate_pct: int = Field(-1, ge=-1, le=100)  # -1: the parameter's


METRICS = {
    "ttft_ms": "time to the first token, median over the requests",
    "ttft_p50_ms": "time to the first token, median over the requests",
    "ttft_p99_ms": "time to the first token, 99th percentile over the requests",
    "total_ms": "time to answer the whole trace, one request after another (median of the repeats)",
    "speedup_x": "time of the whole trace without the cache over its time at this point",
    "ttft_off_p50_ms": "median time to the first token of the same trace without the cache",
    "miss_cost_pct": "what a request that misses takes longer to its first token than without a cache (medians)",
    "observed_hit_rate_pct": "requests that found a beginning in the cache, of those after the warm-up",
    "reused_tokens_pct": "prompt tokens that were not computed again",
    "tokens_equal": "1 when every answer is token for token that of the model without a prompt cache, else 0",
    "cache_bytes": "bytes of all tensors that the prompt cache holds at the end",
    "cache_limit_bytes": "its memory bound",
    "evictions": "blocks that it gave up for lack of memory",
}


@dataclass
class Replay:
    """What the repeats of a trace took: lists over all requests, and what the last cache looked like."""

    ttft_ms: list[float] = field(default_factory=list)
    miss_ms: list[float] = field(default_factory=list)
    total_ms: list[float] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    reused: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    cache: Any = None


def needs(params: Params) -> Sequence[api.Needs]:
    return [local.needs()]


def run(params: Params, ctx: api.Context) -> None:
    made = program.load(ctx.day / params.program, NAMES)
    model, _ = local.load(ctx)
    limit = int(params.max_prompts * (params.prefix_tokens + params.suffix_tokens) * local.token_bytes(model))
    key = made.fingerprint(model)
    for point in ctx.points:
        rate = params.hit_rate_pct if point.hit_rate_pct < 0 else point.hit_rate_pct
        with device.spared(point, ctx):
            off, on = both(made, model, params, rate, lambda: made.PromptCache(key, limit), ctx.seed)
            ctx.say(f"hit rate {rate} %: the trace took {min(off.total_ms):.0f} ms off, {min(on.total_ms):.0f} ms on")
            ctx.record(point, *figures(off, on, point, limit))


def both(
    made: Any, model: Any, params: Params, rate: int, new_cache: Callable[[], Any], seed: int
) -> tuple[Replay, Replay]:
    """Traces without and with a cache, by turns, so that a busy moment of the machine meets both."""
    off, on = Replay(), Replay()
    for turn in range(params.repeats + 1):
        few = 4 if not turn else params.requests  # the first turn only warms up
        requests = made.trace(
            few, rate / 100, params.prefix_tokens, params.suffix_tokens, model.config.vocab_size, seed + turn
        )
        replays = (Replay(), Replay()) if not turn else (off, on)
        replay(made, model, requests, params, None, replays[0])
        replay(made, model, requests, params, new_cache(), replays[1])
    return off, on


def replay(made: Any, model: Any, requests: Sequence[Any], params: Params, cache: Any, into: Replay) -> None:
    """Answer the trace in its order; its first request fills the cache and does not count."""
    answers = [made.answer(model, each.ids, params.new_tokens, cache) for each in requests][1:]
    into.ttft_ms += [1000 * one.ttft_s for one in answers]
    into.miss_ms += [1000 * one.ttft_s for one in answers if not one.reused]
    into.total_ms.append(1000 * sum(one.total_s for one in answers))
    into.tokens += [one.tokens for one in answers]
    into.reused += [one.reused for one in answers]
    into.asked += [len(each.ids) for each in requests[1:]]
    into.cache = cache


def figures(off: Replay, on: Replay, point: Point, limit: int) -> tuple[dict[str, float], dict[str, api.Spread]]:
    mine = on if point.cache == "on" else off
    ttft, total, base = spread(mine.ttft_ms), spread(mine.total_ms), spread(off.ttft_ms)
    found = {
        "ttft_ms": ttft.p50, "ttft_p50_ms": ttft.p50, "ttft_p99_ms": ttft.p99, "total_ms": total.p50,
        "speedup_x": spread(off.total_ms).p50 / total.p50, "ttft_off_p50_ms": base.p50,
        "observed_hit_rate_pct": 100 * sum(count > 0 for count in mine.reused) / len(mine.reused),
        "reused_tokens_pct": 100 * sum(mine.reused) / sum(mine.asked),
        "tokens_equal": float(mine.tokens == off.tokens),
        "cache_bytes": float(local.stored_bytes(mine.cache) if mine.cache else 0),
        "cache_limit_bytes": float(limit if mine.cache else 0),
        "evictions": float(mine.cache.evictions if mine.cache else 0),
    }  # fmt: skip
    if mine.miss_ms:
        found["miss_cost_pct"] = 100 * (spread(mine.miss_ms).p50 / base.p50 - 1)
    return found, {"ttft_ms": ttft, "ttft_p50_ms": ttft, "ttft_p99_ms": ttft, "total_ms": total}
