"""Quantized checkpoints by llm-compressor, kept in the models' cache so that serving does not quantize again.

Methods and where they come from: GPTQ (arXiv 2210.17323), AWQ (arXiv 2306.00978), SmoothQuant (arXiv 2211.10438),
FP8 E4M3 with one scale per channel and token (arXiv 2209.05433), RTN = round to nearest, which needs no data.
llm-compressor is the successor of AutoAWQ and AutoGPTQ, whose repositories are archived.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.llm import compressor
from tasks.models import cache

Method = Literal[
    "bf16", "fp16", "gptq_w4a16", "awq_w4a16", "smoothquant_w8a8", "fp8_w8a8", "rtn_w4a16", "rtn_w8a8",
]  # fmt: skip
PLAIN = {"bf16": "bfloat16", "fp16": "float16"}  # not quantized: the original, served in this precision
CALIBRATED = ("gptq_w4a16", "awq_w4a16", "smoothquant_w8a8")
MADE = "quantized.json"
TOKENIZER = ("tokenizer", "chat_template", "generation_config", "special_tokens", "vocab", "merges")
SMOOTHING = 0.8  # share of the activations' range that moves into the weights; 0.8 as in llm-compressor's examples


@dataclass(frozen=True)
class Compressed:
    """A checkpoint folder; `seconds` is what quantizing took when it was made (0 for one that is only cast)."""

    folder: Path
    seconds: float


def compressed(source: Path, method: Method, samples: int, seed: int, say: Callable[[str], None] = print) -> Compressed:
    """The checkpoint of `source` quantized with `method`, calibrated on `samples` training questions."""
    wish = [str(source.resolve()), stamps(source), method, samples if method in CALIBRATED else 0, seed]
    name = f"quantized-{method}-{cache.key(wish, [sys.modules[__name__], compressor])}"
    if method in PLAIN:
        return Compressed(cache.obtain(name, lambda stage: cast(source, PLAIN[method], stage)), 0.0)
    folder = cache.obtain(name, lambda stage: quantize(source, method, samples, seed, stage, say))
    return Compressed(folder, float(json.loads((folder / MADE).read_text(encoding="utf-8"))["seconds"]))


def stamps(source: Path) -> list[tuple[str, int, int]]:
    """Size and age of the weights: a learner may write another model into the same folder."""
    files = [(file.name, file.stat()) for file in sorted(source.glob("*.safetensors"))]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in files]


def weights_bytes(folder: Path) -> int:
    """What the checkpoint's weights take on disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def parameters(folder: Path) -> int:
    """How many the checkpoint stores; tied weights are stored once."""
    from safetensors import safe_open

    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            names = list(tensors.keys())
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    return count


def cast(source: Path, dtype: str, stage: Path) -> None:
    """The original in another precision, so that its size on disk is that precision's."""
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, dtype=dtype).save_pretrained(stage)
    copy_tokenizer(source, stage)


def copy_tokenizer(source: Path, stage: Path) -> None:
    """The tokenizer's files as they are: what another version of transformers writes is not read everywhere."""
    for file in source.iterdir():
        if file.name.startswith(TOKENIZER):
            shutil.copy(file, stage / file.name)


def quantize(
    source: Path, method: Method, samples: int, seed: int, stage: Path, say: Callable[[str], None]
) -> None:  # fmt: skip
    """Quantize into `stage`: weights in the compressed-tensors format, tokenizer as it is, and how long it took."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype="bfloat16")  # what is not quantized stays in this
    rows = compressor.calibration(tokenizer, samples, seed) if method in CALIBRATED else []
    say(f"quantizing with {method}")
    began = time.perf_counter()
    compressor.applied(model, tokenizer, recipe(method, group_size(model.config)), rows)
    seconds = time.perf_counter() - began
    model.save_pretrained(stage, save_compressed=True)
    compressor.let_go(model)
    copy_tokenizer(source, stage)
    (stage / MADE).write_text(json.dumps({"method": method, "seconds": seconds}), encoding="utf-8")


def group_size(config: Any) -> int:
    """Weights that share a scale: 128, as is usual; 32 where the model's rows are too short for that."""
    narrow = min(config.hidden_size, config.intermediate_size) < 512
    return 32 if narrow or config.hidden_size % 128 or config.intermediate_size % 128 else 128


def recipe(method: Method, group: int) -> list[Any]:
    """llm-compressor's modifiers. W4A16 is symmetric with GPTQ and RTN; AWQ keeps its usual zero points."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    whole = {"targets": "Linear", "ignore": compressor.KEPT}
    if method == "gptq_w4a16":
        return [GPTQModifier(config_groups=four_bits(group, symmetric=True), ignore=compressor.KEPT)]
    if method == "awq_w4a16":
        return [
            AWQModifier(),
            QuantizationModifier(config_groups=four_bits(group, symmetric=False), ignore=compressor.KEPT),
        ]
    if method == "smoothquant_w8a8":
        return [SmoothQuantModifier(smoothing_strength=SMOOTHING), GPTQModifier(scheme="W8A8", **whole)]
    if method == "rtn_w4a16":
        return [QuantizationModifier(config_groups=four_bits(group, symmetric=True), ignore=compressor.KEPT)]
    return [QuantizationModifier(scheme="FP8_DYNAMIC" if method == "fp8_w8a8" else "W8A8", **whole)]


def four_bits(group: int, *, symmetric: bool) -> dict[str, Any]:
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weights = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=group, symmetric=symmetric)
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=weights)}
