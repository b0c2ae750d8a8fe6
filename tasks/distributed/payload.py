"""Counts what a pass hands to torch's collectives, whatever the backend: bytes that a ring sends for each call."""

from __future__ import annotations

from typing import Any

# ring cost of a collective over p ranks, as multiples of (p − 1)/p and which argument is the whole
WHOLE = {
    "allreduce_": (2, 0), "_allgather_base_": (1, 0), "allgather_": (1, 0),
    "_reduce_scatter_base_": (1, 1), "reduce_scatter_": (1, 1), "broadcast_": (1, 0),
}  # fmt: skip


def counter(ways: int) -> Any:
    """A context manager whose `sent` grows by the ring cost in bytes of each collective called in the block."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        sent = 0.0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            packet = function._schema.name.split("::")
            if packet[0] == "c10d" and packet[1] in WHOLE:
                times, place = WHOLE[packet[1]]
                self.sent += times * (ways - 1) / ways * nbytes(args[place])
            return function(*args, **(kwargs or {}))

    return Counter()


def nbytes(given: Any) -> int:
    """Of a tensor, or of all tensors in nested lists."""
    return sum(map(nbytes, given)) if isinstance(given, list | tuple) else int(given.nbytes)
