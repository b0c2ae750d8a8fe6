"""Kind `speculative`: vLLM with and without guessed tokens, side by side: same answers, acceptance, speed-up.

Speculative decoding (arXiv 2211.17192): a cheap guesser proposes tokens, the target checks them in one pass and keeps
those that it would have said. `ngram` guesses from the prompt, `draft` asks a small model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import drafts, exam, pace, room
from tasks.llm.deeper import deeper
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint
from tasks.services.timing import spread

METRICS = {
    "acceptance_pct": "guesses that the target accepted, in percent (server's counters: also past an answer's end)",
    "tokens_per_step": "output tokens for each pass of the target, that over the prompt too (plain decoding has 1)",
    "speedup": "time without guessing over time with it, same questions one at a time, median of the repeats",
    "decode_tps": "output tokens per second with guessing, one request at a time, median of the repeats",
    "baseline_tps": "the same without guessing",
    "outputs_equal_pct": "answers with the very same tokens as without guessing, greedy decoding, in percent",
}
TRUSTED_PCT = 90  # a target that says something else with guesses than without is not sped up but broken
COUNTER = "vllm:spec_decode_num_{}_total"
STEPS = "vllm:iteration_tokens_total_count"  # a histogram with one observation for each step that gave tokens


class Params(api.Params):
    """`guesses` tokens at a time; `layers` deepens a target made on the spot (see `deeper`); `questions` a repeat."""

    guesses: int = Field(default=4, ge=1, le=16)
    layers: int = Field(default=24, ge=1)
    questions: int = Field(default=24, ge=4)
    repeats: int = Field(default=4, ge=2)
    max_tokens: int = Field(default=24, ge=4)
    max_model_len: int = Field(default=512, ge=128)
    kv_gb: float = Field(default=0.2, gt=0)


class Point(api.Params):
    """`prompts` is a task of the quiz, from facts learnt by heart to sums; `mixed` is all of them in turn."""

    method: Literal["ngram", "draft"] = "draft"
    prompts: Literal[
        "mixed", "facts", "last_word", "reverse", "compare", "addition", "lookup", "location"
    ] = "mixed"  # fmt: skip


def needs(params: Params) -> list[api.Needs]:
    return [
        api.Needs(
            backend="vLLM", environment="serving", memory_gb=6, settings=("model",),
        )
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    points = drafts.measurable(ctx, "draft")
    if not points:
        return
    target = deeper(room.home(ctx, params.max_model_len, gpu=pace.on_gpu()), params.layers)
    tokenizer = exam.tokenizer_of(target)
    with vllm.serve(target, options(params, None), ctx.scratch / "plain", ctx.say) as plain:
        for method in dict.fromkeys(point.method for point in points):
            guesser = speculation(method, params, ctx)
            with vllm.serve(target, options(params, guesser), ctx.scratch / method, ctx.say) as guessing:
                for point in (point for point in points if point.method == method):
                    measure(point, params, ctx, tokenizer, plain, guessing)


def options(params: Params, guesser: Mapping[str, Any] | None) -> vllm.Options:
    """One server's settings. Without a GPU in float32, where rounding cannot decide between two tokens."""
    gpu = pace.on_gpu()
    return vllm.Options(
        max_model_len=params.max_model_len, kv_gb=params.kv_gb, dtype="bfloat16" if gpu else "float32", max_num_seqs=8,
        prefix_caching=False, speculative=guesser, gpu=gpu, name="model", extra=pace.beside_others(),
    )  # fmt: skip


def speculation(method: str, params: Params, ctx: api.Context) -> dict[str, Any]:
    """vLLM's `--speculative-config`."""
    wish: dict[str, Any] = {"method": "ngram", "prompt_lookup_max": 3, "prompt_lookup_min": 1}
    if method == "draft":
        wish = {"method": "draft_model", "model": str(drafts.home(ctx))}
    return {**wish, "num_speculative_tokens": params.guesses}


def measure(
    point: Point, params: Params, ctx: api.Context, tokenizer: Any, plain: Endpoint, guessing: Endpoint
) -> None:  # fmt: skip
    tasks = None if point.prompts == "mixed" else [point.prompts]
    given = exam.exam(tokenizer, params.questions * (params.repeats + 1), ctx.seed, tasks).prompts
    turns = [
        [given[(turn * params.questions + each) % len(given)] for each in range(params.questions)]
        for turn in range(params.repeats + 1)
    ]
    equal_pct = same_pct(asked(plain, turns[0], params), asked(guessing, turns[0], params))  # also warms up
    if equal_pct < TRUSTED_PCT:
        raise api.UserError(
            f"with {point.method} only {equal_pct:.0f} % of the answers stay the same: nothing is timed",
            where="speculative decoding",
        )
    before = client.metrics(guessing)
    pairs = [timed(turn, plain, guessing, prompts, params) for turn, prompts in enumerate(turns[1:])]
    added = client.metrics(guessing).since(before)
    guessed, accepted = (added.value(COUNTER.format(name)) for name in ("draft_tokens", "accepted_tokens"))
    gains = spread([slow / fast for (slow, _), (fast, _) in pairs])
    rates = [spread([tokens / seconds for seconds, tokens in side]) for side in zip(*pairs, strict=True)]
    ctx.record(
        point,
        {
            "acceptance_pct": 100 * accepted / guessed if guessed else 0.0,
            "tokens_per_step": sum(tokens for _, (_, tokens) in pairs) / added.value(STEPS),
            "speedup": gains.p50, "baseline_tps": rates[0].p50, "decode_tps": rates[1].p50,
            "outputs_equal_pct": equal_pct,
        },
        {"speedup": gains, "baseline_tps": rates[0], "decode_tps": rates[1]},
    )  # fmt: skip


def asked(endpoint: Endpoint, prompts: Sequence[list[int]], params: Params) -> list[client.Answer]:
    """Greedy answers, one request at a time, with their token ids."""
    return client.concurrently(endpoint, prompts, 1, params.max_tokens, return_token_ids=True)


def timed(
    turn: int, plain: Endpoint, guessing: Endpoint, prompts: Sequence[list[int]], params: Params
) -> tuple[tuple[float, int], tuple[float, int]]:
    """((seconds, tokens) without, (seconds, tokens) with guessing); which goes first changes from turn to turn."""
    found = {}
    for name in ("plain", "guessing") if turn % 2 == 0 else ("guessing", "plain"):
        answers = asked(plain if name == "plain" else guessing, prompts, params)
        found[name] = (sum(answer.seconds for answer in answers), sum(answer.tokens for answer in answers))
    return found["plain"], found["guessing"]


def same_pct(one: Sequence[client.Answer], other: Sequence[client.Answer]) -> float:
    """Share of answers with equal token ids, in percent."""
    equal = sum(a.token_ids == b.token_ids and bool(a.token_ids) for a, b in zip(one, other, strict=True))
    return 100 * equal / len(one)
