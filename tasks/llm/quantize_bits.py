"""Kind `quantize_bits`: from 8 bits to 2 by three methods: error of the weights and of the predictions, size, quality.

`rtn` rounds to the nearest between each group's extremes; `hqq` then fits the zero points to the weights
(half-quadratic quantization, Mobius Labs 2023); `gptq` makes later columns repair the error of earlier ones on
calibration data (arXiv 2210.17323).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import compressor, exam, local, pace, room
from tasks.models import device

METRICS = {
    "size_mb": "the model with packed weights, 10^6 bytes: see `packed_bytes`",
    "bits_per_weight": "bits of each quantized weight with its share of scale and zero point",
    "weight_error_pct": "Frobenius norm of the weights' error, in percent of the weights' norm",
    "prediction_kl": "Kullback-Leibler divergence of the next-token distribution from the original's, nats per token",
    **exam.METRICS,
}
SCALE_BITS = ZERO_BITS = 16
REST_BITS = 16  # what is not quantized (embedding, norms, biases) is kept in bfloat16
MB = 1e6
LENGTH = 128  # tokens of a question with its answer, at the most


class Params(api.Params):
    questions: int = Field(default=140, ge=10, le=2000)
    samples: int = Field(default=128, ge=8, le=2048)
    group: int = Field(default=32, ge=8)


class Point(api.Params):
    method: Literal["rtn", "hqq", "gptq"] = "rtn"
    bits: Literal[2, 3, 4, 8] = 2


def needs(params: Params) -> list[api.Needs]:
    return [
        api.Needs(
            backend="hqq + llm-compressor (torch)", environment="training", memory_gb=3, settings=("model",)
        )
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    source = room.home(ctx, LENGTH, gpu=pace.on_gpu(), precision="bf16" if pace.on_gpu() else "fp32")
    tokenizer = exam.tokenizer_of(source)
    given = exam.exam(tokenizer, params.questions, ctx.seed)
    whole = before(local.settled(compressor.loaded(source)), tokenizer, given)
    device.release()
    for point in ctx.points:
        with device.spared(point, ctx):
            made = quantized(source, tokenizer, point, params, ctx.seed)
            ctx.record(point, measured(local.settled(made), tokenizer, given, whole, point, params))


@dataclass(frozen=True)
class Whole:
    """The model before: its parameters' count, its linear weights (on the CPU), its predictions and its answers."""

    parameters: int
    weights: Mapping[str, Any]
    predictions: Any
    marks: exam.Marks


def before(model: Any, tokenizer: Any, given: exam.Exam) -> Whole:
    weights = {name: weight.detach().cpu().clone() for name, weight in linear_weights(model).items()}
    return Whole(model.num_parameters(), weights, predictions(model, given), exam.taken(model, tokenizer, given))


def measured(
    model: Any, tokenizer: Any, given: exam.Exam, whole: Whole, point: Point, params: Params
) -> dict[str, float]:
    """Size by the formula, error of weights and predictions, quality."""
    marks, (size, each) = exam.taken(model, tokenizer, given), packed_bytes(whole, point.bits, params.group)
    return {
        "size_mb": size / MB, "bits_per_weight": each, "weight_error_pct": weight_error_pct(whole.weights, model),
        "prediction_kl": divergence(whole.predictions, predictions(model, given)),
        "answer_perplexity": marks.perplexity, "exact_match_pct": marks.exact_match_pct,
        "agreement_pct": marks.agreement_pct(whole.marks),
    }  # fmt: skip


def linear_weights(model: Any) -> dict[str, Any]:
    return {name: layer.weight for name, layer in compressor.linears(model).items()}


def quantized(source: Path, tokenizer: Any, point: Point, params: Params, seed: int) -> Any:
    """The model with its linear weights replaced by what the quantized ones stand for."""
    import torch
    from hqq.core.quantize import Quantizer

    model = compressor.loaded(source)
    if point.method == "gptq":
        return by_gptq(model, tokenizer, point, params, seed)
    with torch.no_grad():
        for weight in linear_weights(model).values():
            packed, meta = Quantizer.quantize(
                weight.data, nbits=point.bits, group_size=params.group, axis=1, optimize=point.method == "hqq",
                device="cuda" if pace.on_gpu() else "cpu", compute_dtype=torch.float32,
            )  # fmt: skip
            weight.copy_(Quantizer.dequantize(packed, meta))
    return model


def by_gptq(model: Any, tokenizer: Any, point: Point, params: Params, seed: int) -> Any:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.gptq import GPTQModifier

    weights = QuantizationArgs(
        num_bits=point.bits, type="int", strategy="group", group_size=params.group, symmetric=False
    )
    groups = {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
    modifiers = [GPTQModifier(config_groups=groups, ignore=compressor.KEPT)]
    compressor.applied(model, tokenizer, modifiers, compressor.calibration(tokenizer, params.samples, seed))
    return compressor.let_go(model)


def packed_bytes(whole: Whole, bits: int, group: int) -> tuple[float, float]:
    """(bytes of the whole model, bits of each quantized weight): `bits` each, a scale and a zero point per group."""
    weights = sum(weight.numel() for weight in whole.weights.values())
    each = bits + (SCALE_BITS + ZERO_BITS) / group
    return (weights * each + (whole.parameters - weights) * REST_BITS) / 8, each


def weight_error_pct(before: Mapping[str, Any], model: Any) -> float:
    """Frobenius norm of what the linear weights differ from `before`, in percent of its norm."""
    error = norm = 0.0
    for name, weight in linear_weights(model).items():
        whole = before[name].to(weight.device).float()
        error += float((whole - weight.float()).square().sum())
        norm += float(whole.square().sum())
    return 100 * math.sqrt(error / norm)


def predictions(model: Any, given: exam.Exam) -> Any:
    """Log-probabilities [answer tokens, vocabulary] where the right answers are predicted, on the CPU."""
    import torch

    found = []
    for prompt, reply in zip(given.prompts, given.replies, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + reply], device=model.device), use_cache=False).logits[0]
        found.append(torch.log_softmax(logits[len(prompt) - 1 : -1].float(), dim=-1).cpu())
    return torch.cat(found)


def divergence(before: Any, after: Any) -> float:
    import torch

    return float(torch.nn.functional.kl_div(after, before, log_target=True, reduction="batchmean"))
