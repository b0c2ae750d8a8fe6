"""What tensor_parallel_demo.py must offer, and loading it. Used inside a rank: a file is loaded once by each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.services import program

FUNCTIONS = ("shard", "tensor_parallel", "sequence_parallel")
CONTRACT = (
    "shard(weights, rank, ways) -> this rank's weights; tensor_parallel(x, part, head_dim, overlap=False) -> the whole"
    " output on every rank; sequence_parallel(x, part, head_dim) -> the output for this rank's tokens"
)


def load(file: Path) -> Any:
    """The learner's module. UserError when the file cannot give the functions."""
    return program.load(file, FUNCTIONS, f"wanted: {CONTRACT}")
