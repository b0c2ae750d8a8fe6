"""The model of the soak, for Triton's Python backend: eight dense layers on an input drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

WIDTH, LAYERS = 256, 8


class Network:
    def __init__(self) -> None:
        self.weights = np.random.default_rng(90).normal(0, WIDTH**-0.5, (LAYERS, WIDTH, WIDTH)).astype(np.float32)

    def means(self, seeds: Any) -> Any:
        """The mean absolute output for each of `seeds`: float32, shape (n,)."""
        values = np.stack([np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds]).astype(np.float32)
        for layer in self.weights:
            values = np.tanh(values @ layer)
        return np.abs(values).mean(axis=1)


class TritonPythonModel:
    """What Triton's Python backend looks for."""

    def initialize(self, args: Any) -> None:
        self.network = Network()

    def execute(self, requests: Any) -> list[Any]:
        """All requests that Triton batched, in one pass."""
        import triton_python_backend_utils as pb_utils

        seeds = [pb_utils.get_input_tensor_by_name(request, "SEED").as_numpy() for request in requests]
        means = self.network.means(np.concatenate(seeds)[:, 0])
        parts = np.split(means[:, None], np.cumsum([len(part) for part in seeds])[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("MEAN", part)]) for part in parts]
