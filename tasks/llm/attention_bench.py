"""Attention written naively, in tiles, and fused: time, memory, equality; alone, and in a model that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import local, memory
from tasks.models import device, random_lm
from tasks.services import program, timing

NAMES = ("naive", "tiled", "flash", "replace")
WAYS = Literal["naive", "tiled", "flash"]


class Params(api.Params):
    program: str = "flash_attention.py"
    heads: int = Field(8, ge=1)
    width: int = Field(64, ge=8)
    layers: int = Field(4, ge=1)  # of the model whose attention is replaced
    budget_s: float = Field(0.6, gt=0)
    least: int = Field(3, ge=1)


class Point(api.Params):
    attention: WAYS = "flash"
    tokens: int = Field(1024, ge=16)


METRICS = {
    "attention_ms": "one causal attention over all heads, median",
    "attention_gflops": "its arithmetic per second: 2 products of 2 * heads * tokens^2 * width, halved for causality",
    "peak_memory_mib": "memory above q, k and v at the highest during one call",
    "max_diff": "largest difference of the output from the naive one in float32; bfloat16 (GPU) itself rounds by 0.004",
    "prefill_ms": "a model's pass over that many tokens with this attention in every layer, median",
    "logits_diff": "largest difference of its logits from those with transformers' own attention, of the largest logit",
}


def needs(params: Params) -> Sequence[api.Needs]:
    gpu = api.Needs(backend="FlashAttention (CUDA)", environment="training", gpus=1, memory_gb=3)
    host = api.Needs(
        backend="torch SDPA, CPU flash kernel", stand_in_for="FlashAttention (CUDA)", environment="training",
        memory_gb=3,
    )  # fmt: skip
    return [gpu, host]


def run(params: Params, ctx: api.Context) -> None:
    import torch

    made = program.load(ctx.day / params.program, NAMES)
    hidden = params.heads * params.width
    model = local.settled(
        random_lm.make(
            seed=ctx.seed, layers=params.layers, hidden=hidden, heads=params.heads, kv_heads=params.heads,
            intermediate=2 * hidden, vocab=512,
        )
    )  # fmt: skip
    if model.device.type == "cuda":
        model = model.to(torch.bfloat16)  # CUDA's flash kernel has no float32
    for point in ctx.points:
        with device.spared(point, ctx):
            ctx.record(point, *measure(made, model, params, point, ctx.seed))


def measure(
    made: Any, model: Any, params: Params, point: Point, seed: int
) -> tuple[dict[str, float], dict[str, api.Spread]]:
    import torch

    place, kind = model.device, model.dtype
    compute = getattr(made, point.attention)
    torch.manual_seed(seed)
    shape = (1, params.heads, point.tokens, params.width)
    fresh = [tuple(torch.randn(shape, device=place, dtype=kind) for _ in range(3)) for _ in range(3)]
    with torch.inference_mode():
        q, k, v = fresh[0]
        apart = (compute(q, k, v).float() - made.naive(q.float(), k.float(), v.float())).abs().max().item()
        _, peak = memory.peak_mib(lambda: compute(q, k, v), place)
        alone = timing.spread(
            timing.repeat(lambda *given: waited(compute(*given), place), fresh, params.budget_s, params.least)
        )
        whole, off = in_model(made, model, params, point, seed)
    flop = 2 * params.heads * point.tokens**2 * params.width  # two products of 2 n n d, half of them in the future
    found = {
        "attention_ms": alone.p50, "attention_gflops": flop / alone.p50 / 1e6, "peak_memory_mib": peak,
        "max_diff": apart, "prefill_ms": whole.p50, "logits_diff": off,
    }  # fmt: skip
    return found, {"attention_ms": alone, "prefill_ms": whole}


def waited(result: Any, device: Any) -> Any:
    """The result when it is really there."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize()
    return result


def in_model(made: Any, model: Any, params: Params, point: Point, seed: int) -> tuple[api.Spread, float]:
    """(milliseconds of the model's pass, difference of its logits) with the attention replaced."""
    texts = [
        (local.drawn(model.config.vocab_size, (1, point.tokens), seed + turn).to(model.device),) for turn in range(3)
    ]

    def read(ids: Any) -> Any:
        return waited(model(input_ids=ids, use_cache=False, logits_to_keep=16).logits.float(), model.device)

    model.set_attn_implementation("eager")
    reference = read(*texts[0])
    made.replace(model, point.attention)
    off = ((read(*texts[0]) - reference).abs().max() / reference.abs().max()).item()
    return timing.spread(timing.repeat(read, texts, params.budget_s, params.least)), off
