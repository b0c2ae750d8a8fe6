"""The transformer block that is parallelised, whole on one device: what every parallel result must equal.

Pre-norm, causal attention, GELU. A block's weights are a dictionary: norm1, norm2 (hidden), qkv (3·hidden, hidden),
out (hidden, hidden), up (4·hidden, hidden), down (hidden, 4·hidden), each with `.weight` and `.bias`; all float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Weights = Mapping[str, Any]


def weights(hidden: int, layers: int, seed: int) -> list[dict[str, Any]]:
    """Random blocks, scaled so that a deep stack keeps its values near one. Biases and norms are random too."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "qkv": (3 * hidden, hidden), "out": (hidden, hidden), "up": (4 * hidden, hidden), "down": (hidden, 4 * hidden),
    }  # fmt: skip

    def block() -> dict[str, Any]:
        found = {f"{n}.weight": torch.randn(s, generator=draw) * (0.5 * s[1] ** -0.5) for n, s in shapes.items()}
        found |= {f"{n}.bias": torch.randn(s[0], generator=draw) * 0.1 for n, s in shapes.items()}
        for norm in ("norm1", "norm2"):
            found[f"{norm}.weight"] = 1 + 0.1 * torch.randn(hidden, generator=draw)
            found[f"{norm}.bias"] = 0.1 * torch.randn(hidden, generator=draw)
        return found

    return [block() for _ in range(layers)]


def inputs(batch: int, tokens: int, hidden: int, seed: int) -> Any:
    """(batch, tokens, hidden), normal."""
    import torch

    return torch.randn(batch, tokens, hidden, generator=torch.Generator().manual_seed(seed))


def whole(x: Any, blocks: Sequence[Weights], heads: int) -> Any:
    """The blocks one after the other, on one device."""
    for block in blocks:
        x = x + attention(normed(x, block, "norm1"), block, heads)
        x = x + mlp(normed(x, block, "norm2"), block)
    return x


def normed(x: Any, block: Weights, norm: str) -> Any:
    from torch.nn.functional import layer_norm

    return layer_norm(x, x.shape[-1:], block[f"{norm}.weight"], block[f"{norm}.bias"])


def attention(x: Any, block: Weights, heads: int) -> Any:
    from torch.nn.functional import linear, scaled_dot_product_attention

    batch, tokens, hidden = x.shape
    mixed = linear(x, block["qkv.weight"], block["qkv.bias"]).view(batch, tokens, 3, heads, hidden // heads)
    query, key, value = mixed.permute(2, 0, 3, 1, 4)
    seen = scaled_dot_product_attention(query, key, value, is_causal=True)
    return linear(seen.transpose(1, 2).reshape(batch, tokens, hidden), block["out.weight"], block["out.bias"])


def mlp(x: Any, block: Weights) -> Any:
    from torch.nn.functional import gelu, linear

    return linear(gelu(linear(x, block["up.weight"], block["up.bias"])), block["down.weight"], block["down.bias"])
