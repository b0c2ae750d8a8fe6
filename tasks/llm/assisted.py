"""Kind `assisted_generation`: transformers' own speculative decoding, switched on by one argument of `generate`.

`assistant` is a draft model (`assistant_model=`), `prompt_lookup` guesses from the prompt
(`prompt_lookup_num_tokens=`). One sequence at a time, greedy, answers compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import drafts, exam, local, pace, room
from tasks.llm.deeper import deeper
from tasks.models import device
from tasks.services.timing import spread

METRICS = {
    "speedup": "time of plain generate() over time with guessing, same questions, median of the repeats",
    "plain_tps": "output tokens per second of plain generate(), median of the repeats",
    "assisted_tps": "output tokens per second with guessing, median of the repeats",
    "tokens_per_step": "tokens for each pass of the target model with guessing (plain generation has 1)",
    "outputs_equal_pct": "answers with the very same tokens as without guessing, in percent",
}
TRUSTED_PCT = 90
TOKENS = 512  # of a question with its answer there is room for at the least


class Params(api.Params):
    guesses: int = Field(default=4, ge=1, le=16)
    questions: int = Field(default=14, ge=4)
    repeats: int = Field(default=3, ge=2)
    max_tokens: int = Field(default=24, ge=4)


class Point(api.Params):
    """`target_layers` deepens a target made on the spot (see `deeper`)."""

    method: Literal["assistant", "prompt_lookup"] = "assistant"
    target_layers: int = Field(default=24, ge=1)


def needs(params: Params) -> list[api.Needs]:
    return [local.needs()]


def run(params: Params, ctx: api.Context) -> None:
    points = drafts.measurable(ctx, "assistant")
    source = room.home(ctx, TOKENS, gpu=pace.on_gpu(), precision="fp32")
    helper = assistant(ctx, params) if any(point.method == "assistant" for point in points) else None
    given = exam.exam(exam.tokenizer_of(source), params.questions * (params.repeats + 1), ctx.seed).prompts
    count = params.questions
    turns = [[given[(turn * count + each) % len(given)] for each in range(count)] for turn in range(params.repeats + 1)]
    for folder, alike in by_target(source, points).items():
        target = loaded(folder)
        for point in alike:
            more: dict[str, Any] = {"assistant_model": helper}
            if point.method == "prompt_lookup":
                more = {"prompt_lookup_num_tokens": params.guesses}
            compare(point, params, ctx, target, more, turns)
        del target
        device.release()


def by_target(source: Path, points: Sequence[Point]) -> dict[Path, list[Point]]:
    """The points of each target: a hub's model is one target, whatever depth is asked for."""
    found: dict[Path, list[Point]] = {}
    for point in points:
        found.setdefault(deeper(source, point.target_layers), []).append(point)
    return found


def assistant(ctx: api.Context, params: Params) -> Any:
    """The draft model, which always guesses as many tokens: easier to reason about than a number that adapts."""
    helper = loaded(drafts.home(ctx))
    helper.generation_config.num_assistant_tokens = params.guesses
    helper.generation_config.num_assistant_tokens_schedule = "constant"
    helper.generation_config.assistant_confidence_threshold = 0.0
    return helper


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return local.settled(AutoModelForCausalLM.from_pretrained(folder, dtype="float32"))


def compare(
    point: Point, params: Params, ctx: api.Context, target: Any, more: dict[str, Any], turns: Sequence[Any]
) -> None:  # fmt: skip
    plain, guessed = answers(target, turns[0], params, {}), answers(target, turns[0], params, more)
    equal_pct = 100 * sum(a == b for a, b in zip(plain, guessed, strict=True)) / len(plain)
    if equal_pct < TRUSTED_PCT:
        raise api.UserError(
            f"with {point.method} only {equal_pct:.0f} % of the answers stay the same: nothing is timed"
        )
    gains, slow_rates, fast_rates, steps, tokens = [], [], [], 0, 0
    for prompts in turns[1:]:
        slow, count = timed(target, prompts, params, {})
        passes = Passes(target)
        fast, guessed_count = timed(target, prompts, params, more)
        steps, tokens = steps + passes.stop(), tokens + guessed_count
        gains.append(slow / fast)
        slow_rates.append(1000 * count / slow)
        fast_rates.append(1000 * guessed_count / fast)
    spreads = {"speedup": spread(gains), "plain_tps": spread(slow_rates), "assisted_tps": spread(fast_rates)}
    medians = {name: each.p50 for name, each in spreads.items()}
    ctx.record(point, {**medians, "tokens_per_step": tokens / steps, "outputs_equal_pct": equal_pct}, spreads)


def timed(target: Any, prompts: Sequence[list[int]], params: Params, more: dict[str, Any]) -> tuple[float, int]:
    """Milliseconds for the answers to all prompts, and how many tokens they have."""
    made: list[list[int]] = []
    taken = local.milliseconds(lambda: made.extend(answers(target, prompts, params, more)), target.device)
    return taken, sum(map(len, made))


def answers(target: Any, prompts: Sequence[list[int]], params: Params, more: dict[str, Any]) -> list[list[int]]:
    """New token ids of each prompt, one after the other."""
    import torch

    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt], device=target.device)
        with torch.inference_mode():
            made = target.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=params.max_tokens, do_sample=False,
                **more,
            )  # fmt: skip
        found.append(made[0, len(prompt) :].tolist())
    return found


class Passes:
    """Counts a model's forward passes from its making to `stop`."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        self._hook = model.register_forward_pre_hook(self._seen)

    def _seen(self, *_: Any) -> None:
        self.count += 1

    def stop(self) -> int:
        self._hook.remove()
        return self.count
