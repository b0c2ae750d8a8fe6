"""FlashAttention, three ways of writing the same attention, and a model whose attention is replaced.

    naive   softmax(q k^T / sqrt(d)) v, with all n * n scores in memory
    tiled   the same sum over tiles of keys, with a running maximum and a running sum: no n * n matrix anywhere.
            This is FlashAttention's algorithm in plain PyTorch; it shows the idea, its loop costs speed
    flash   torch's fused kernel of that algorithm (CPU and CUDA)

    replace(model, "flash")    every layer of a Hugging Face model now computes its attention that way

What is I/O-aware about it: the scores of a tile stay in fast memory (SRAM, cache) and are used up there; slow memory
sees only q, k, v and the output. Try it:  python flash_attention.py --tokens 2048
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

TILE = 256


def naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention; q, k, v and the output are [batch, heads, tokens, width], the queries the last of the keys."""
    queries, keys = q.shape[-2], k.shape[-2]
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    later = torch.ones(queries, keys, dtype=torch.bool, device=q.device).triu(keys - queries + 1)
    return scores.masked_fill_(later, float("-inf")).softmax(-1) @ v


def tiled(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The same, tile by tile. For each tile of queries: the highest score so far `top`, the sum of the exponentials
    `total`, and the weighted values `out`; when a tile brings a higher score, what was summed before is scaled down.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    ahead = keys - queries  # keys before the first query
    made = torch.empty_like(q)
    for start in range(0, queries, TILE):
        part = q[..., start : start + TILE, :] * q.shape[-1] ** -0.5
        rows = torch.arange(start, start + part.shape[-2], device=q.device)[:, None] + ahead
        top = part.new_full((*part.shape[:-1], 1), float("-inf"))
        total, out = torch.zeros_like(top), torch.zeros_like(part)
        for first in range(0, int(rows.max()) + 1, TILE):  # tiles that lie wholly in the future are not even read
            tile = slice(first, first + TILE)
            scores = part @ k[..., tile, :].transpose(-1, -2)
            columns = torch.arange(first, first + scores.shape[-1], device=q.device)[None]
            scores = scores.masked_fill(columns > rows, float("-inf"))
            higher = torch.maximum(top, scores.amax(-1, keepdim=True))
            shrink, weights = torch.exp(top - higher), torch.exp(scores - higher)
            total = total * shrink + weights.sum(-1, keepdim=True)
            out = out + weights @ v[..., tile, :]
            top = higher
        made[..., start : start + TILE, :] = out / total
    return made


def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """torch's fused kernel; it refuses rather than fall back to another one."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        causal = q.shape[-2] > 1  # a single new token may look at everything
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


WAYS = {"naive": naive, "tiled": tiled, "flash": flash}


def replace(model: Any, way: str) -> None:
    """Let every layer of the model compute its attention by `WAYS[way]` (causal, without padding)."""
    compute = WAYS[way]

    def attend(module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        groups = q.shape[1] // k.shape[1]  # query heads that share one key head
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        return compute(q, k, v).transpose(1, 2), None

    name = f"learnt_{list(WAYS).index(way)}"  # a name with "flash" in it would be looked up on the hub
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    model.set_attn_implementation(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(90)
    q, k, v = (torch.randn(1, asked.heads, asked.tokens, asked.width, device=device, dtype=kind) for _ in range(3))
    reference = naive(q, k, v)
    for name, compute in WAYS.items():
        compute(q, k, v)  # warm
        start = time.perf_counter()
        out = compute(q, k, v)
        if device == "cuda":
            torch.cuda.synchronize()
        milliseconds = 1000 * (time.perf_counter() - start)
        print(
            json.dumps(
                {"attention": name, "ms": round(milliseconds, 2), "max_diff": float((out - reference).abs().max())}
            )
        )


if __name__ == "__main__":
    main()
