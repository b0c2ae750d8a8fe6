"""Requests to a Triton server and what its statistics say about them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.api import UserError

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Times:
    """What a model's requests took in the server, cumulative: counts and milliseconds."""

    requests: int = 0
    total_ms: float = 0.0
    queue_ms: float = 0.0
    compute_ms: float = 0.0  # input, inference and output
    inferences: int = 0  # what was asked: a request with a batch of 4 counts four times
    executions: int = 0  # how often the model ran

    @property
    def mean_batch(self) -> float:
        return self.inferences / self.executions if self.executions else 0.0

    def since(self, before: Times) -> Times:
        """The mean times of one request since `before`."""
        requests = self.requests - before.requests
        if requests < 1:
            raise UserError("no request was answered in between, so there is no mean")
        total, queue, compute = (
            (getattr(self, name) - getattr(before, name)) / requests for name in ("total_ms", "queue_ms", "compute_ms")
        )
        inferences, executions = self.inferences - before.inferences, self.executions - before.executions
        return Times(requests, total, queue, compute, inferences, executions)


class Client:
    """A gRPC client of one server; a refused request is a UserError with the server's message."""

    def __init__(self, address: str) -> None:
        from tritonclient.grpc import InferenceServerClient

        self.server = InferenceServerClient(address)

    def infer(self, model: str, inputs: Mapping[str, Any], version: str = "") -> dict[str, Any]:
        """Run `model` (its newest version unless one is named) once on named arrays; all its outputs by name."""
        from tritonclient.grpc import InferInput
        from tritonclient.utils import InferenceServerException, np_to_triton_dtype

        tensors = []
        for name, array in inputs.items():
            tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        try:
            result = self.server.infer(model, tensors, version, client_timeout=TIMEOUT_S)
        except InferenceServerException as error:
            raise UserError(f"Triton refused a request to {model}: {error.message()}") from error
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def times(self) -> dict[str, Times]:
        """The cumulative times of every model."""
        answer = self.server.get_inference_statistics(as_json=True)
        return {model["name"]: times(model) for model in answer["model_stats"]}

    def times_after(self, before: Mapping[str, Times], models: Sequence[str], wait_s: float = 2) -> dict[str, Times]:
        """The times once every one of `models` has counted a request since `before`: Triton counts after it answers."""
        deadline = time.monotonic() + wait_s
        while True:
            now = self.times()
            if all(now[model].requests > before[model].requests for model in models) or time.monotonic() > deadline:
                return now

    def ready(self, model: str) -> bool:
        return bool(self.server.is_model_ready(model))

    def close(self) -> None:
        self.server.close()


def times(model: Mapping[str, Any]) -> Times:
    """Triton's statistics of one model (counts and nanoseconds as text) in milliseconds."""
    statistics: Mapping[str, Mapping[str, str]] = model.get("inference_stats", {})

    def ms(*names: str) -> float:
        return sum(int(statistics.get(name, {}).get("ns", 0)) for name in names) / 1e6

    requests = int(statistics.get("success", {}).get("count", 0))
    compute = ms("compute_input", "compute_infer", "compute_output")
    counts = (int(model.get("inference_count", 0)), int(model.get("execution_count", 0)))
    return Times(requests, ms("success"), ms("queue"), compute, *counts)


def max_abs_error(measured: Any, reference: Any, what: str, tolerance: float) -> float:
    """The largest deviation from the reference; UserError when it is beyond the tolerance or the shape is another."""
    import numpy

    if measured is None or measured.shape != reference.shape:
        raise UserError(f"{what}: shape {getattr(measured, 'shape', None)} instead of {reference.shape}")
    worst = float(numpy.abs(measured.astype(numpy.float64) - reference).max())
    if not worst <= tolerance:
        raise UserError(f"{what} differs from the numpy reference by {worst:.3g} (allowed {tolerance:g})")
    return worst
