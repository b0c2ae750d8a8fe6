import torch
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention


def shard(weights, rank, ways):
    return dict(weights)


def tensor_parallel(x, part, head_dim, overlap=False):
    for norm, first, second in (("norm1", "qkv", "out"), ("norm2", "up", "down")):
        own = layer_norm(x, x.shape[-1:], part[f"{norm}.weight"], part[f"{norm}.bias"])
        own = linear(own, part[f"{first}.weight"], part[f"{first}.bias"])
        if first == "qkv":
            query, key, value = (t.unflatten(-1, (-1, head_dim)).transpose(1, 2) for t in own.chunk(3, -1))
            own = scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2)
        else:
            own = gelu(own)
        x = x + linear(own, part[f"{second}.weight"], part[f"{second}.bias"])
    return x


def sequence_parallel(x, part, head_dim):
    return x
