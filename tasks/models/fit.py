"""How much memory a language model takes when it serves, and what fits: weights + KV cache + activations + runtime.

Sources: weights and KV cache by definition (KV: "Efficient Memory Management for Large Language Model Serving with
PagedAttention", section 2: 2 × layers × KV heads × head size × bytes for each token). Activations: what a fused
decoder holds at once in a step, `activation_bytes`. Runtime: CUDA context, library workspaces and captured graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.models.shape import Shape

GIB = 1024**3
Precision = Literal["fp32", "bf16", "int8", "int4"]
SERVED: tuple[Precision, ...] = ("bf16", "int8", "int4")
BITS: Mapping[Precision, float] = {
    "fp32": 32,
    "bf16": 16,
    "int8": 8,
    "int4": 4.5,
}  # int4: a 16-bit scale for 32 weights
COMPUTED_BYTES: Mapping[Precision, int] = {"fp32": 4, "bf16": 2, "int8": 2, "int4": 2}  # keys, values and activations
RUNTIME_BYTES = 1 * GIB  # an allowance, not a measurement
STEP_TOKENS = 2048  # vLLM's default of max_num_batched_tokens below 70 GiB, the most that one step computes
USABLE = 0.92  # vLLM 0.32's default of gpu_memory_utilization: what it may take of the device


def shapes(models: Iterable[Mapping[str, Any]]) -> dict[str, Shape]:
    """The language models among the parsed files of `conf/model` that say their shape, by id."""
    told = ((model, model.get("lm") or {}) for model in models)
    return {str(model["id"]): Shape.model_validate(dict(lm["shape"])) for model, lm in told if lm.get("shape")}


def weights_bytes(shape: Shape, precision: Precision = "bf16") -> int:
    """Bytes of the weights. Quantizers leave the embeddings in 16 bits (input, and output where it is not tied)."""
    embeddings = embedding_parameters(shape)
    return round((shape.parameters - embeddings) * BITS[precision] / 8 + embeddings * COMPUTED_BYTES[precision])


def embedding_parameters(shape: Shape) -> int:
    """Parameters of the embedding and of the output layer: one table of `vocab × hidden` when they are tied."""
    table = shape.vocab * shape.hidden
    return table if shape.parameters < decoder_parameters(shape) + 2 * table else 2 * table


def decoder_parameters(shape: Shape) -> int:
    """Parameters of the layers' matrices: query and output, keys and values, and the three of a gated MLP."""
    attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)
    return shape.layers * (attention + 3 * shape.hidden * shape.intermediate)


def kv_bytes_per_token(shape: Shape, bytes_each: float = 2) -> float:
    """Bytes of keys and values that every token of a context keeps: 2 × layers × KV heads × head size × bytes."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * bytes_each


def activation_bytes(shape: Shape, step_tokens: int = STEP_TOKENS, sequences: int = 1, bytes_each: int = 2) -> int:
    """Bytes that a step holds at its widest point, with fused attention (no score matrix is written).

    Residual, normalised input, gate and up of the MLP and their product for each token of the step; logits in 32 bits
    for the last token of each sequence.
    """
    per_token = (2 * shape.hidden + 3 * shape.intermediate) * bytes_each
    return step_tokens * per_token + sequences * shape.vocab * 4


@dataclass(frozen=True)
class Memory:
    """What one setting takes, in bytes."""

    weights: int
    kv: int
    activations: int
    runtime: int

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.activations + self.runtime


def memory(
    shape: Shape, precision: Precision = "bf16", tokens: int = 4096, sequences: int = 1, *, gpu: bool = True
) -> Memory:
    """What a server takes for `sequences` contexts of `tokens` tokens at the same time.

    The step is a full one whatever the contexts: vLLM tries the largest that it may have to compute at its start.
    """
    each = COMPUTED_BYTES[precision]
    kv = round(kv_bytes_per_token(shape, each) * tokens * sequences)
    step = activation_bytes(shape, STEP_TOKENS, sequences, each)
    return Memory(weights_bytes(shape, precision), kv, step, RUNTIME_BYTES if gpu else 0)


def cached_tokens(shape: Shape, memory_bytes: float, precision: Precision = "bf16", *, gpu: bool = True) -> int:
    """Tokens that the KV cache can hold when `memory_bytes` are all there is; 0 when the weights do not fit."""
    left = memory_bytes * USABLE - memory(shape, precision, 0, gpu=gpu).total
    return max(0, int(left / kv_bytes_per_token(shape, COMPUTED_BYTES[precision])))


def longest_context(shape: Shape, memory_bytes: float, precision: Precision = "bf16", *, gpu: bool = True) -> int:
    """The longest context of one sequence that fits into `memory_bytes`, in tokens; 0 when the weights do not fit."""
    return min(shape.max_positions, cached_tokens(shape, memory_bytes, precision, gpu=gpu))


def largest_that_fits(
    memory_bytes: float, shapes: Mapping[str, Shape], tokens: int = 4096, precision: Precision = "bf16",
    *, gpu: bool = True,
) -> str:  # fmt: skip
    """The model with the most parameters that leaves room for `tokens` tokens in its cache; "" when there is none."""
    able = [name for name, shape in shapes.items() if cached_tokens(shape, memory_bytes, precision, gpu=gpu) >= tokens]
    return max(able, key=lambda name: shapes[name].parameters, default="")
