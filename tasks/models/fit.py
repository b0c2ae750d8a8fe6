"""How much memory a language model takes when it serves, and what fits: weights + KV cache + activations + runtime.

Sources: weights and KV cache by definition (KV: "Efficient Memory Management for Large Language Model Serving with
PagedAttention", section 2: 2 × layers × KV heads × head size × bytes for each token). Activations: what a fused
decoder holds at once in a step, `activation_bytes`. Runtime: CUDA context, library workspaces and captured graphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.models.shape import Shape

GIB = 1024**3
BITS: Mapping[str, float] = {"bf16": 16, "int8": 8, "int4": 4.5}  # int4 with one 16-bit scale for each group of 32
KV_BYTES: Mapping[str, int] = {"bf16": 2, "int8": 2, "int4": 2}  # quantized weights, 16-bit keys and values
RUNTIME_BYTES = 1 * GIB  # CUDA context, workspaces and CUDA graphs of vLLM on one GPU: 0.6 to 1.2 GiB
STEP_TOKENS = 2048  # vLLM's default of max_num_batched_tokens, the most that one step computes
USABLE = 0.9  # vLLM's default of gpu_memory_utilization: what it may take of the device


def shapes(models: Iterable[Mapping[str, Any]]) -> dict[str, Shape]:
    """The language models among the parsed files of `conf/model` that say their shape, by id."""
    told = ((model, model.get("lm") or {}) for model in models)
    return {str(model["id"]): Shape.model_validate(dict(lm["shape"])) for model, lm in told if lm.get("shape")}


def weights_bytes(shape: Shape, precision: str = "bf16") -> int:
    """Bytes of the weights. Quantizers leave the embeddings in 16 bits (input, and output where it is not tied)."""
    embeddings = embedding_parameters(shape)
    return round((shape.parameters - embeddings) * BITS[precision] / 8 + embeddings * 2)


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
    shape: Shape, precision: str = "bf16", tokens: int = 4096, sequences: int = 1, *, gpu: bool = True
) -> Memory:
    """What a server takes for `sequences` contexts of `tokens` tokens at the same time."""
    kv = round(kv_bytes_per_token(shape, KV_BYTES[precision]) * tokens * sequences)
    step = activation_bytes(shape, min(STEP_TOKENS, tokens * sequences), sequences)
    return Memory(weights_bytes(shape, precision), kv, step, RUNTIME_BYTES if gpu else 0)


def longest_context(shape: Shape, memory_bytes: float, precision: str = "bf16", *, gpu: bool = True) -> int:
    """The longest context of one sequence that fits into `memory_bytes`, in tokens; 0 when the weights do not fit."""
    empty = memory(shape, precision, 0, 1, gpu=gpu)
    left = memory_bytes * USABLE - empty.total - activation_bytes(shape, STEP_TOKENS, 0)
    return max(0, min(shape.max_positions, int(left / kv_bytes_per_token(shape, KV_BYTES[precision]))))


@dataclass(frozen=True)
class Fit:
    """A model that fits at a precision, with the longest context of one sequence in tokens."""

    model: str
    precision: str
    context: int


def fits(shapes: Mapping[str, Shape], memory_bytes: float, *, gpu: bool = True, context: int = 1) -> list[Fit]:
    """Every model and precision that leaves room for `context` tokens, in the order given."""
    found = (
        Fit(name, precision, longest_context(shape, memory_bytes, precision, gpu=gpu))
        for name, shape in shapes.items()
        for precision in BITS
    )
    return [fit for fit in found if fit.context >= context]


def largest_that_fits(
    memory_bytes: float, shapes: Mapping[str, Shape], context: int = 4096, precisions: Iterable[str] = ("bf16",),
    *, gpu: bool = True,
) -> Fit | None:  # fmt: skip
    """The model with the most parameters that fits with `context` tokens; None when there is none.

    Of its precisions the first of `precisions` with which it fits.
    """
    wanted = list(precisions)
    chosen = [fit for fit in fits(shapes, memory_bytes, gpu=gpu, context=context) if fit.precision in wanted]
    return max(
        chosen, key=lambda fit: (shapes[fit.model].parameters, -wanted.index(fit.precision)), default=None
    )  # fmt: skip
