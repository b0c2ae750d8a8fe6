"""A Triton Python-backend model that runs the `model.onnx` beside it in ONNX Runtime; executed by Triton's stub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of the model. A dynamically batched list of requests is run as one batch."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batched = config["max_batch_size"] > 0
        self.session = load_session(args, config)
        known = {tensor.name for tensor in (*self.session.get_inputs(), *self.session.get_outputs())}
        if unknown := set(self.inputs + self.outputs) - known:
            raise pb_utils.TritonModelException(f"{sorted(unknown)} are not in model.onnx, which has {sorted(known)}")

    def execute(self, requests: list[Any]) -> list[Any]:
        arrays = [self.arrays(request) for request in requests]
        if not self.batched or not stackable(arrays):
            return [self.respond(self.run(inputs)) for inputs in arrays]
        outputs = self.run([numpy.concatenate(parts) for parts in zip(*arrays, strict=True)])
        ends = numpy.cumsum([len(inputs[0]) for inputs in arrays])[:-1]
        split = zip(*(numpy.split(output, ends) for output in outputs), strict=True)
        return [self.respond(parts) for parts in split]

    def arrays(self, request: Any) -> list[Any]:
        return [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs]

    def run(self, inputs: list[Any]) -> Any:
        return self.session.run(self.outputs, dict(zip(self.inputs, inputs, strict=True)))

    def respond(self, outputs: Any) -> Any:
        tensors = [pb_utils.Tensor(name, array) for name, array in zip(self.outputs, outputs, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def stackable(requests: list[Any]) -> bool:
    """Whether all requests have the same shapes apart from the batch axis."""
    return all(
        [array.shape[1:] for array in arrays] == [array.shape[1:] for array in requests[0]] for arrays in requests
    )


def load_session(args: dict[str, str], config: dict[str, Any]) -> Any:
    """An ONNX Runtime session on the model.onnx of the version that is loaded."""
    settings = onnxruntime.SessionOptions()
    threads = config.get("parameters", {}).get("intra_op_num_threads", {}).get("string_value", "1")
    settings.intra_op_num_threads = int(threads)
    file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
    return onnxruntime.InferenceSession(str(file), settings, providers=providers(args))


def providers(args: dict[str, str]) -> list[Any]:
    """The GPU of a KIND_GPU instance; a runtime without CUDA fails to load instead of falling back silently."""
    if args["model_instance_kind"] != "GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise pb_utils.TritonModelException("KIND_GPU asked for, but this onnxruntime has no CUDAExecutionProvider")
    return [("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])})]
