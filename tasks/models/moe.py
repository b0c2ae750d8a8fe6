"""Two untrained language models that compute the same number of weights for each token: dense, and mixture of experts.

Both have Qwen3's shape and differ in their MLPs alone: one of `chosen` × `expert` wide, or `experts` of `expert` wide
of which a router chooses `chosen` for each token. Weights are random: their speed is that of trained ones.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.api import Params

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
STD = 0.08  # of the weights: logits far enough apart that rounding does not decide between them
SHARPER = 6.0
Variant = Literal["dense", "moe"]


class Shape(Params):
    layers: int = Field(default=4, ge=1)
    hidden: int = Field(default=512, ge=32)
    heads: int = Field(default=8, ge=1)
    kv_heads: int = Field(default=4, ge=1)
    experts: int = Field(default=8, ge=2)
    chosen: int = Field(default=2, ge=1)
    expert: int = Field(default=1024, ge=32)  # width of an expert's MLP

    @property
    def mlp_parameters(self) -> int:
        """Weights of one expert in one layer: gate, up and down projection."""
        return 3 * self.hidden * self.expert


@dataclass(frozen=True)
class Made:
    folder: Path
    total: int  # parameters, the embedding and output included
    active: int  # of them, those that compute for one token


def build(shape: Shape, variant: Variant, tokenizer: Path, folder: Path, seed: int) -> Made:
    """Write the model as a Hugging Face folder with the tokenizer of another; bfloat16."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(seed)
    words = AutoTokenizer.from_pretrained(tokenizer)
    common = {
        "vocab_size": len(words), "hidden_size": shape.hidden, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden // shape.heads, "max_position_embeddings": 4096, "initializer_range": STD,
        "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }  # fmt: skip
    model: Any
    if variant == "dense":
        model = Qwen3ForCausalLM(Qwen3Config(**common, intermediate_size=shape.chosen * shape.expert))
    else:
        routed = {"num_experts": shape.experts, "num_experts_per_tok": shape.chosen, "norm_topk_prob": True}
        model = Qwen3MoeForCausalLM(
            Qwen3MoeConfig(**common, **routed, moe_intermediate_size=shape.expert, intermediate_size=shape.expert)
        )
        sharpen(model)
    model = model.to(torch.bfloat16)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    for name in TOKENIZER:
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder)
    total = sum(weight.numel() for weight in model.parameters())
    idle = (shape.experts - shape.chosen) * shape.mlp_parameters * shape.layers if variant == "moe" else 0
    return Made(folder, total, total - idle)


def sharpen(model: Any) -> None:
    """Make the router sure of itself, as a trained one is: else rounding often decides which expert comes second."""
    for layer in model.model.layers:
        layer.mlp.gate.weight.data.mul_(SHARPER)


def experts_touched(folder: Path, batch: int, chosen: int, seed: int, length: int = 32) -> float:
    """Different experts that one decoding step of `batch` random sequences needs, mean over layers and steps."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.config.vocab_size, (batch, length), generator=drawn)
    with torch.inference_mode():
        routes = model(input_ids=ids, output_router_logits=True).router_logits
    counts = [
        len(torch.unique(layer.reshape(batch, length, -1)[:, step].topk(chosen).indices))
        for layer in routes
        for step in range(length // 2, length)
    ]
    return sum(counts) / len(counts)
