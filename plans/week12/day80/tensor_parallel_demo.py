"""Tensor and sequence parallelism of a transformer block, after Megatron-LM (Shoeybi 2019, Korthikanti 2022).

    python tensor_parallel_demo.py                          # two processes, equal to one device?
    torchrun --nproc-per-node 4 tensor_parallel_demo.py     # four

Each rank holds whole attention heads and a slice of the MLP. The first matrix of each pair is cut by columns and the
second by rows, so that nothing is exchanged between them and one sum over the ranks follows each pair: two all-reduces
for a block. Ranks talk over NCCL where each has a GPU, else over gloo.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

Weights = dict[str, Tensor]

# torch 2.13 renamed these two; older releases know the second name only
ALL_GATHER = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
REDUCE_SCATTER = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def shard(weights: Weights, rank: int, ways: int) -> Weights:
    """A rank's part of a block's weights. Linear weights are (out, in), as in torch."""
    part = {}
    for name, tensor in weights.items():
        if name.startswith("qkv."):  # q, k and v lie one below the other: each is cut, so that heads stay whole
            part[name] = torch.cat([one.chunk(ways)[rank] for one in tensor.chunk(3)])
        elif name.startswith("up."):  # by columns: a slice of the outputs
            part[name] = tensor.chunk(ways)[rank].clone()
        elif name in ("out.weight", "down.weight"):  # by rows: the inputs that this rank has
            part[name] = tensor.chunk(ways, dim=1)[rank].contiguous()
        else:  # norms, and the biases that are added once, after the sum
            part[name] = tensor
    return part


def heads_mixed(mixed: Tensor, head_dim: int) -> Tensor:
    """Causal attention of this rank's heads: q, k, v side by side (batch, tokens, 3 × own) → (batch, tokens, own)."""
    batch, tokens, _ = mixed.shape
    query, key, value = (one.reshape(batch, tokens, -1, head_dim).transpose(1, 2) for one in mixed.chunk(3, dim=-1))
    seen = scaled_dot_product_attention(query, key, value, is_causal=True)
    return seen.transpose(1, 2).reshape(batch, tokens, -1)


def activated(wide: Tensor, head_dim: int) -> Tensor:
    return gelu(wide)


# the halves of a block: its norm, the matrix cut by columns, what each rank does alone, the matrix cut by rows
Between = Callable[[Tensor, int], Tensor]
HALVES: tuple[tuple[str, str, Between, str], ...] = (
    ("norm1", "qkv", heads_mixed, "out"),
    ("norm2", "up", activated, "down"),
)


def normed(x: Tensor, part: Weights, norm: str) -> Tensor:
    return layer_norm(x, x.shape[-1:], part[f"{norm}.weight"], part[f"{norm}.bias"])


def tensor_parallel(x: Tensor, part: Weights, head_dim: int, overlap: bool = False) -> Tensor:
    """One block for `x` (batch, tokens, hidden), the same on every rank before and after.

    With `overlap` the batch goes through in two pieces: while one piece is summed over the ranks, the other is
    computed. The sums are the same, so is the result.
    """
    pieces = list(x.chunk(2) if overlap else [x])
    for norm, first, between, second in HALVES:
        running = []
        for piece in pieces:
            own = linear(normed(piece, part, norm), part[f"{first}.weight"], part[f"{first}.bias"])
            summand = linear(between(own, head_dim), part[f"{second}.weight"])
            running.append((summand, dist.all_reduce(summand, async_op=True)))
        pieces = [added(piece, *sent, part[f"{second}.bias"]) for piece, sent in zip(pieces, running, strict=True)]
    return torch.cat(pieces)


def added(piece: Tensor, summand: Tensor, work: dist.Work, bias: Tensor) -> Tensor:
    """The residual connection, once the sum over the ranks is there."""
    work.wait()
    return piece + summand + bias


def gathered(mine: Tensor) -> Tensor:
    """The tokens of all ranks, in order: (batch, tokens / ways, width) → (batch, tokens, width)."""
    mine = mine.transpose(0, 1).contiguous()
    whole = mine.new_empty(len(mine) * dist.get_world_size(), *mine.shape[1:])
    ALL_GATHER(whole, mine)
    return whole.transpose(0, 1)


def scattered(summand: Tensor) -> Tensor:
    """The sum over the ranks, of this rank's tokens: (batch, tokens, width) → (batch, tokens / ways, width)."""
    whole = summand.transpose(0, 1).contiguous()
    mine = whole.new_empty(len(whole) // dist.get_world_size(), *whole.shape[1:])
    REDUCE_SCATTER(mine, whole)
    return mine.transpose(0, 1)


class GatheredLinear(torch.autograd.Function):
    """A linear layer on the tokens of all ranks that keeps this rank's own for the backward pass, as Megatron does."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(mine, weight)
        return linear(gathered(mine), weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mine, weight = ctx.saved_tensors
        rows = gradient.flatten(0, 1)
        return scattered(gradient @ weight), rows.T @ gathered(mine).flatten(0, 1), rows.sum(0)


class Scattered(torch.autograd.Function):
    """`scattered`; backwards the gradients of all tokens are gathered."""

    @staticmethod
    def forward(ctx: Any, summand: Tensor) -> Tensor:
        return scattered(summand)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gathered(gradient)


def sequence_parallel(x: Tensor, part: Weights, head_dim: int) -> Tensor:
    """One block for this rank's tokens `x` (batch, tokens / ways, hidden): norms and residuals are split as well.

    An all-gather in front of each half and a reduce-scatter behind it take the place of the all-reduce: in a ring both
    together send as much as it does, and a rank keeps fewer activations for the backward pass.
    """
    for norm, first, between, second in HALVES:
        own = GatheredLinear.apply(normed(x, part, norm), part[f"{first}.weight"], part[f"{first}.bias"])
        x = x + Scattered.apply(linear(between(own, head_dim), part[f"{second}.weight"])) + part[f"{second}.bias"]
    return x


def random_block(hidden: int, seed: int) -> Weights:
    draw = torch.Generator().manual_seed(seed)
    wide = 4 * hidden
    shapes = {"qkv": (3 * hidden, hidden), "out": (hidden, hidden), "up": (wide, hidden), "down": (hidden, wide)}
    block = {f"{name}.weight": torch.randn(shape, generator=draw) * shape[1] ** -0.5 for name, shape in shapes.items()}
    block |= {f"{name}.bias": torch.randn(shape[0], generator=draw) for name, shape in shapes.items()}
    for norm in ("norm1", "norm2"):
        block |= {f"{norm}.weight": torch.ones(hidden), f"{norm}.bias": torch.zeros(hidden)}
    return block


def demonstrate(
    rank: int, ways: int, meeting: str = "env://", hidden: int = 256, heads: int = 8, tokens: int = 128
) -> None:
    """Both kinds of parallelism against the whole block, which is what one rank alone computes."""
    gpus = torch.cuda.device_count() >= ways
    device = torch.device("cuda", rank) if gpus else torch.device("cpu")
    dist.init_process_group("nccl" if gpus else "gloo", init_method=meeting, rank=rank, world_size=ways)
    block = {name: tensor.to(device) for name, tensor in random_block(hidden, seed=90).items()}
    x = torch.randn(2, tokens, hidden, generator=torch.Generator().manual_seed(91)).to(device)
    whole = x
    for norm, first, between, second in HALVES:
        own = linear(normed(whole, block, norm), block[f"{first}.weight"], block[f"{first}.bias"])
        whole = whole + linear(between(own, hidden // heads), block[f"{second}.weight"], block[f"{second}.bias"])
    part = shard(block, rank, ways)
    for name, difference in {
        "tensor parallel": tensor_parallel(x, part, hidden // heads) - whole,
        "tensor parallel, overlapped": tensor_parallel(x, part, hidden // heads, overlap=True) - whole,
        "sequence parallel": sequence_parallel(x.chunk(ways, dim=1)[rank], part, hidden // heads)
        - whole.chunk(ways, dim=1)[rank],
    }.items():
        print(f"rank {rank} of {ways}, {name}: at most {difference.abs().max():.1e} from one device", flush=True)
    dist.destroy_process_group()


def main() -> None:
    if "RANK" in os.environ:  # started by torchrun
        demonstrate(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        return
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # nothing leaves this machine
    with tempfile.TemporaryDirectory() as folder:  # the ranks meet in a file: no port is opened to the network
        torch.multiprocessing.spawn(demonstrate, args=(2, f"file://{folder}/meeting"), nprocs=2)


if __name__ == "__main__":
    main()
