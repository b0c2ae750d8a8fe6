"""What tensor_parallel_demo.py must offer, and loading it. Used inside a rank: a file is loaded once by each."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from tasks.api import UserError

FUNCTIONS = ("shard", "tensor_parallel", "sequence_parallel")
CONTRACT = (
    "shard(weights, rank, ways) -> this rank's weights; tensor_parallel(x, part, head_dim, overlap=False) -> the whole"
    " output on every rank; sequence_parallel(x, part, head_dim) -> the output for this rank's tokens"
)


def load(file: Path) -> ModuleType:
    """The learner's module. UserError when the file cannot give the functions."""
    if not file.is_file() or not file.read_bytes().strip():
        raise UserError("the file is missing or empty", where=file.name)
    spec = importlib.util.spec_from_file_location("tensor_parallel_demo", file)
    if spec is None or spec.loader is None:
        raise UserError("this is not a Python file", where=file.name)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"it cannot be loaded: {type(error).__name__}: {error}", where=file.name) from error
    if lacking := [name for name in FUNCTIONS if not callable(getattr(module, name, None))]:
        raise UserError(f"it has no {', '.join(lacking)}", where=file.name, remedy=f"wanted: {CONTRACT}")
    return module
