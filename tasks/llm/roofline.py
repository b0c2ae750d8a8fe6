"""The kind `llm_roofline`: prefill and decode of a language model on this machine's measured roofline.

Model of Williams, Waterman and Patterson (2009): attainable = min(peak, bandwidth × intensity), intensity in FLOP for
each byte of memory. Peak and bandwidth are measured here, in the model's precision, with the model's threads. FLOP are
counted by torch (`FlopCounterMode`) in a pass with written-out attention, the masked half of a prompt's scores with it;
bytes are the least that must move: every weight once, keys and values read and written, each layer's activations in
and out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import room
from tasks.llm.twin import Shape as Wide
from tasks.llm.twin import stands_for
from tasks.models import device, fit, lm
from tasks.models.shape import Shape
from tasks.services import timing

BYTES = 2  # of a weight, key, value or activation in bfloat16
METRICS: Mapping[str, str] = {
    "intensity_flop_per_byte": "floating-point operations for each byte that must move",
    "ridge_flop_per_byte": "intensity from which on this machine is bound by computing: peak over bandwidth",
    "memory_bound_ok": "1 when the intensity lies below the ridge: memory is the bound; 0 when computing is",
    "achieved_gflops": "operations of the pass for each second, in billions",
    "roof_gflops": "what the roofline allows at this intensity",
    "of_roof_pct": "achieved, of what the roofline allows, in percent",
    "peak_gflops": "matrix product in bfloat16, measured on this machine",
    "bandwidth_gb_s": "bytes read and written by a copy for each second, measured on this machine",
    "latency_ms": "time of the pass, median",
}


class Params(api.Params):
    prompt_tokens: int = Field(default=256, ge=1)  # of a prefill; also the context of a decoding step
    repeats: int = Field(default=8, ge=3)
    twin: Wide = Wide()


class Point(api.Params):
    phase: Literal["prefill", "decode"] = "prefill"
    batch: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Roof:
    """Peak in FLOP/s and bandwidth in bytes/s."""

    flops: float
    bytes: float

    @property
    def ridge(self) -> float:
        return self.flops / self.bytes

    def at(self, intensity: float) -> float:
        """FLOP/s that the roofline allows at an intensity in FLOP/byte."""
        return min(self.flops, self.bytes * intensity)


def needs(params: Params) -> Sequence[api.Needs]:
    gpu = api.Needs(backend="PyTorch on CUDA", environment="serving", gpus=1, memory_gb=4, settings=("model",))
    cpu = api.Needs(
        backend="PyTorch on the CPU", stand_in_for="roofline of a GPU", environment="serving", memory_gb=3,
        settings=("model",),
    )  # fmt: skip
    return [gpu, cpu]


def run(params: Params, ctx: api.Context) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    place = "cuda" if ctx.tier == "native" else "cpu"
    folder = stands_for(room.home(ctx, params.prompt_tokens, gpu=ctx.tier == "native"), params.twin, ctx.seed)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(place).eval()
    shape = lm.describe(folder)
    roof = measured_roof(place, params.repeats)
    ctx.say(f"this machine: {roof.flops / 1e9:.0f} GFLOP/s, {roof.bytes / 1e9:.1f} GB/s")
    for point in ctx.points:
        with device.spared(point, ctx):
            flops, times = passed(model, shape, point, params, place)
            metrics = placed(roof, flops, least_bytes(shape, point, params.prompt_tokens), times.p50)
            ctx.record(point, {**metrics, "latency_ms": times.p50}, {"latency_ms": times}, note=verdict(metrics))


def passed(model: Any, shape: Shape, point: Point, params: Params, place: str) -> tuple[int, api.Spread]:
    """FLOP of the point's pass, and its times with fused attention."""
    step = prepared(model, shape, point, params.prompt_tokens, place)
    model.set_attn_implementation("eager")  # torch counts its products; of the CPU's fused kernel it knows none
    flops = counted(step)
    model.set_attn_implementation("sdpa")
    return flops, timing.spread(samples_ms(step, place, params.repeats))


def measured_roof(device: str, repeats: int) -> Roof:
    """Peak of a bfloat16 product and bandwidth of a copy that no cache holds: the best of the repeats."""
    import torch

    side, size = (8192, 2**30) if device == "cuda" else (2048, 2**27)
    left = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    right = torch.randn(side, side, dtype=torch.bfloat16, device=device)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_ms = min(samples_ms(lambda: left @ right, device, repeats))
    copy_ms = min(samples_ms(lambda: target.copy_(source), device, repeats))
    return Roof(2 * side**3 / (product_ms / 1000), 2 * size / (copy_ms / 1000))


def prepared(model: Any, shape: Shape, point: Point, context: int, device: str) -> Callable[[], Any]:
    """One pass of the phase. Prefill: a prompt of `context` tokens. Decode: one token after `context` cached ones."""
    import torch

    rng = torch.Generator().manual_seed(point.batch)
    ids = torch.randint(3, shape.vocab, (point.batch, context), generator=rng).to(device)
    if point.phase == "prefill":
        return lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1)
    with torch.inference_mode():
        cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    def decode() -> Any:
        made = model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
        cache.crop(context)
        return made

    return decode


def counted(step: Callable[[], Any]) -> int:
    """FLOP of one pass as torch counts its products and attention (a multiply-add is two)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        step()
    total = counter.get_total_flops()
    if not total:
        raise api.UserError("torch counted no operations in the pass")
    return int(total)


def least_bytes(shape: Shape, point: Point, context: int) -> float:
    """Bytes that one pass must move: weights once, KV cache, activations in and out of each layer's products.

    In: the normalised input twice, the heads' output, the MLP's product; out: queries, the two sums into the residual,
    gate and up. New keys and values are what the cache gets.
    """
    tokens = point.batch * (context if point.phase == "prefill" else 1)
    table = shape.vocab * shape.hidden
    weights = (fit.decoder_parameters(shape) + table) * BYTES
    written = tokens * fit.kv_bytes_per_token(shape, BYTES)
    read = point.batch * context * fit.kv_bytes_per_token(shape, BYTES)
    per_layer = 4 * shape.hidden + 3 * shape.intermediate + 2 * shape.head_dim * shape.heads
    return weights + written + read + tokens * shape.layers * per_layer * BYTES


def samples_ms(step: Callable[[], Any], device: str, repeats: int) -> list[float]:
    """Wall times of single passes after two to warm up, the device being idle before and after each."""
    import torch

    wait: Callable[[], Any] = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 2):
            wait()
            began = time.perf_counter()
            step()
            wait()
            times.append(1000 * (time.perf_counter() - began))
    return times[2:]


def placed(roof: Roof, flops: float, moved: float, latency_ms: float) -> dict[str, float]:
    """Where a pass of `flops` operations and `moved` bytes lies under the roof."""
    intensity, achieved = flops / moved, flops / (latency_ms / 1000)
    return {
        "intensity_flop_per_byte": intensity, "ridge_flop_per_byte": roof.ridge,
        "memory_bound_ok": float(intensity < roof.ridge), "achieved_gflops": achieved / 1e9,
        "roof_gflops": roof.at(intensity) / 1e9, "of_roof_pct": 100 * achieved / roof.at(intensity),
        "peak_gflops": roof.flops / 1e9, "bandwidth_gb_s": roof.bytes / 1e9,
    }  # fmt: skip


def verdict(metrics: Mapping[str, float]) -> str:
    bound = "memory" if metrics["memory_bound_ok"] else "computing"
    return f"{metrics['intensity_flop_per_byte']:.1f} FLOP/byte, ridge {metrics['ridge_flop_per_byte']:.1f}: {bound}"
