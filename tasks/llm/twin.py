"""A model of a real one's width with random weights: what memory and speed depend on, and quality does not.

The small models that are trained on the spot weigh 2 MB: a server's own work hides what quantization gains there.
How fast a decoder decodes does not depend on what its weights are, so a wide one with random weights shows it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.models import cache, lm


class Shape(api.Params):
    """Width and depth. The defaults are those of Qwen2.5-0.5B, a little wider, with a third of its layers."""

    layers: int = Field(default=8, ge=1)
    hidden: int = Field(default=1024, ge=128)
    heads: int = Field(default=16, ge=1)
    kv_heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=2816, ge=128)


def stands_for(folder: Path, shape: Shape, seed: int) -> Path:
    """`folder` itself when it is a hub's model, or a model of that shape with the folder's tokenizer."""
    if not (folder / lm.FACTS).exists():
        return folder
    wish = [shape.model_dump(), str(folder.resolve()), seed]
    name = f"twin-{cache.key(wish, [sys.modules[__name__]])}"
    return cache.obtain(name, lambda stage: make(folder, shape, seed, stage))


def make(folder: Path, shape: Shape, seed: int, stage: Path) -> None:
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=shape.hidden, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
            intermediate_size=shape.intermediate, max_position_embeddings=2048, tie_word_embeddings=True,
            bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(stage)
    tokenizer.save_pretrained(stage)
