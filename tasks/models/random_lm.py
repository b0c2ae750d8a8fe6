"""Untrained language models of a given shape: for what does not depend on weights (bytes, equalities, speed)."""

from __future__ import annotations

from typing import Any

WIDE = 0.2  # weights so wide that the logits of different tokens lie far apart: argmax has no near ties


def make(
    *, seed: int, layers: int = 2, hidden: int = 64, heads: int = 4, kv_heads: int = 2, intermediate: int = 128,
    vocab: int = 256, spread: float = WIDE,
) -> Any:  # fmt: skip
    """A Qwen2 of that shape with random float32 weights, on the CPU, ready to infer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, intermediate_size=intermediate, max_position_embeddings=32768,
        initializer_range=spread, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()
