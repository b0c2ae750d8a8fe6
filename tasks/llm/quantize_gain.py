"""Kind `quantize_gain`: what quantization saves in memory and gains in speed, served by vLLM, at a width that shows it.

Weights are rounded to the nearest (no calibration): the same kernels run as for GPTQ or AWQ weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.llm import checkpoints, compression, exam, pace, room, sweep
from tasks.llm.twin import Shape, stands_for
from tasks.models import device
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint
from tasks.services.timing import spread

METRICS = {
    **checkpoints.METRICS,
    **pace.METRICS,
    "ttft_ms": "time to the first token of one request of about 200 prompt tokens, median of the repeats",
}
TOKENS, AT_ONCE, PROMPT_TOKENS = 32, 8, 200


class Params(checkpoints.Params):
    """`twin` is measured in place of a model that was made on the spot."""

    twin: Shape = Field(default_factory=Shape)


class Point(api.Params):
    precision: Literal["bf16", "w8a8", "w4a16", "fp8"] = "bf16"


METHODS: dict[str, compression.Method] = {
    "bf16": "bf16", "w8a8": "rtn_w8a8", "w4a16": "rtn_w4a16", "fp8": "fp8_w8a8",
}  # fmt: skip


def needs(params: Params) -> list[api.Needs]:
    return checkpoints.needs()


def run(params: Params, ctx: api.Context) -> None:
    chosen = room.home(ctx, params.max_model_len, gpu=pace.on_gpu())
    source = stands_for(chosen, params.twin, ctx.seed)
    given = exam.exam(exam.tokenizer_of(chosen), params.questions, ctx.seed)
    for point in ctx.points:
        if lack := checkpoints.unserved(METHODS[point.precision]):
            ctx.blocked(point, lack, checkpoints.REMEDY)
            continue
        with sweep.spared(ctx, point):
            measure(point, params, ctx, source, given)


def measure(point: Point, params: Params, ctx: api.Context, source: Path, given: exam.Exam) -> None:
    """Quantize, serve, time."""
    method = METHODS[point.precision]
    made = compression.compressed(source, method, params.samples, ctx.seed, ctx.say)
    device.release()
    before = pace.used_before()
    options = checkpoints.served_with(params, method, ctx)
    with vllm.serve(made.folder, options, ctx.scratch / method, ctx.say) as endpoint:
        one = pace.speeds(endpoint, given.prompts, 1, TOKENS, params.budget_s)
        many = pace.speeds(endpoint, given.prompts, AT_ONCE, TOKENS, params.budget_s)
        first = first_tokens_ms(endpoint, given)
        memory_mb = pace.held_mb(endpoint, before)
    size = compression.weights_bytes(made.folder)
    spreads = {"decode_tps": spread(one), "throughput_tps": spread(many), "ttft_ms": spread(first)}
    medians = {name: each.p50 for name, each in spreads.items()}
    bits = 8 * size / compression.parameters(source)
    ctx.record(point, {"size_mb": size / pace.MB, "bits_per_weight": bits, "memory_mb": memory_mb, **medians}, spreads)


def first_tokens_ms(endpoint: Endpoint, given: exam.Exam, repeats: int = 5) -> list[float]:
    """Milliseconds to the first token of long prompts: prefill is bound by arithmetic, not by the weights' bytes."""
    whole = [token for prompt in given.prompts for token in prompt]
    times = []
    for turn in range(repeats + 1):
        prompt = [whole[(turn * 97 + at) % len(whole)] for at in range(PROMPT_TOKENS)]
        answer = client.concurrently(endpoint, [prompt], 1, 1, ignore_eos=True)[0]
        times.append(1000 * answer.ttft_s)
    return times[1:]
