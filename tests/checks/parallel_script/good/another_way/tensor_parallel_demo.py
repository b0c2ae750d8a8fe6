"""Another way: q, k and v in matrices of their own, nothing asynchronous, plain functions."""

import torch
import torch.distributed as dist
import torch.nn.functional as F


def shard(weights, rank, ways):
    query, key, value = weights["qkv.weight"].chunk(3)
    bias_q, bias_k, bias_v = weights["qkv.bias"].chunk(3)
    own = {
        "q": query, "k": key, "v": value, "bq": bias_q, "bk": bias_k, "bv": bias_v,
        "u": weights["up.weight"], "bu": weights["up.bias"],
    }
    part = {name: tensor.tensor_split(ways)[rank].clone() for name, tensor in own.items()}
    part["o"] = weights["out.weight"].tensor_split(ways, dim=1)[rank].clone()
    part["d"] = weights["down.weight"].tensor_split(ways, dim=1)[rank].clone()
    whole = ("out.bias", "down.bias", "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
    return part | {name: weights[name] for name in whole}


def attend(x, part, head_dim):
    def heads(weight, bias):
        return (x @ part[weight].T + part[bias]).unflatten(-1, (-1, head_dim)).movedim(-2, 1)

    scores = heads("q", "bq") @ heads("k", "bk").mT / head_dim**0.5
    ahead = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    seen = scores.masked_fill(ahead, float("-inf")).softmax(-1) @ heads("v", "bv")
    return seen.movedim(1, -2).flatten(-2) @ part["o"].T


def feed(x, part):
    return F.gelu(x @ part["u"].T + part["bu"]) @ part["d"].T


def norm(x, part, name):
    return F.layer_norm(x, x.shape[-1:], part[name + ".weight"], part[name + ".bias"])


def block(x, part, head_dim):
    summand = attend(norm(x, part, "norm1"), part, head_dim)
    dist.all_reduce(summand)
    x = x + summand + part["out.bias"]
    summand = feed(norm(x, part, "norm2"), part)
    dist.all_reduce(summand)
    return x + summand + part["down.bias"]


def tensor_parallel(x, part, head_dim, overlap=False):
    return torch.cat([block(one, part, head_dim) for one in x.split(1)]) if overlap else block(x, part, head_dim)


def sequence_parallel(x, part, head_dim):
    ways, rank = dist.get_world_size(), dist.get_rank()
    for first in (True, False):
        pieces = [torch.empty_like(x) for _ in range(ways)]
        dist.all_gather(pieces, norm(x, part, "norm1" if first else "norm2").contiguous())
        seen = torch.cat(pieces, dim=1)
        summand = attend(seen, part, head_dim) if first else feed(seen, part)
        dist.all_reduce(summand)  # gloo scatters no other way
        x = x + summand.chunk(ways, dim=1)[rank] + part["out.bias" if first else "down.bias"]
    return x
