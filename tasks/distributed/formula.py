"""How many bytes a rank must send for a block, by the ring algorithms that NCCL and gloo use.

An all-reduce of n bytes over p ranks sends 2(p−1)/p·n from each (Patarasuk & Yuan 2009: a reduce-scatter and an
all-gather of (p−1)/p·n each). Tensor parallelism has two all-reduces of the whole activation in a block's forward pass
(Shoeybi et al. 2019, section 3); sequence parallelism has two all-gathers and two reduce-scatters of the same size
(Korthikanti et al. 2022, section 4.2.2), and so sends as much.
"""

from __future__ import annotations

FLOAT32 = 4
PER_BLOCK = 2  # one after the attention, one after the MLP


def activation_bytes(batch: int, tokens: int, hidden: int) -> int:
    return batch * tokens * hidden * FLOAT32


def ring_share(ways: int) -> float:
    """What a rank sends of n bytes in a ring's all-gather or reduce-scatter."""
    return (ways - 1) / ways


def tensor_parallel_bytes(batch: int, tokens: int, hidden: int, layers: int, ways: int) -> float:
    """Bytes that each rank sends in one forward pass of all layers."""
    return layers * PER_BLOCK * 2 * ring_share(ways) * activation_bytes(batch, tokens, hidden)


def sequence_parallel_bytes(batch: int, tokens: int, hidden: int, layers: int, ways: int, backend: str) -> float:
    """The same for sequence parallelism.

    gloo has no ring for the reduce-scatter: it makes a whole all-reduce and keeps a part (ProcessGroupGloo's
    `_reduce_scatter_base`), which sends twice as much.
    """
    scatter = 2 if backend == "gloo" else 1
    return layers * PER_BLOCK * (1 + scatter) * ring_share(ways) * activation_bytes(batch, tokens, hidden)
