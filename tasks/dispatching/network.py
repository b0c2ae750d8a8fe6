"""The served model of day 83: a table and dense layers, bound by memory for one request and by arithmetic for many.

It stands on numpy alone and is loaded from this file by the learner's server (`infer`) and by Triton's Python backend
(`TritonPythonModel`). Where BATCH_LOG names a file, every execution appends its batch size and its time there: the
batches are counted by the model, not by the server that formed them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

TOKENS, WIDTH = 1024, 512
LAYERS = int(os.environ.get("NETWORK_LAYERS", "8"))


class Network:
    """Each of TOKENS tokens has a number of its own."""

    def __init__(self) -> None:
        draw = np.random.default_rng(90)
        self.table = draw.normal(size=(TOKENS, WIDTH)).astype(np.float32)
        self.layers = draw.normal(0, WIDTH**-0.5, (LAYERS, WIDTH, WIDTH)).astype(np.float32)

    def numbers(self, tokens: Any) -> Any:
        """The mean of the last layer for each token: float32, shape (n,)."""
        values = self.table[np.asarray(tokens, dtype=np.int64)]
        for layer in self.layers:
            values = np.tanh(values @ layer)
        return values.mean(axis=1)


NETWORK = Network()
LOG = open(os.environ["BATCH_LOG"], "a", buffering=1) if os.environ.get("BATCH_LOG") else None  # noqa: SIM115


def infer(tokens: Sequence[int]) -> list[float]:
    """The numbers of `tokens`, in order."""
    if LOG:
        LOG.write(f"{len(tokens)} {time.time()}\n")
    return [float(number) for number in NETWORK.numbers(tokens)]


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    def execute(self, requests: Any) -> list[Any]:
        """All requests that Triton batched, in one pass."""
        import triton_python_backend_utils as pb_utils

        tokens = [pb_utils.get_input_tensor_by_name(request, "TOKEN").as_numpy()[:, 0] for request in requests]
        numbers = np.array(infer(np.concatenate(tokens)), dtype=np.float32)
        parts = np.split(numbers[:, None], np.cumsum([len(part) for part in tokens])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("NUMBER", part)]) for part in parts]
