"""Serves the model.onnx beside it in ONNX Runtime; Triton starts one process of this for each instance."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.input, self.output = config["input"][0]["name"], config["output"][0]["name"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # instances share the cores among them: more threads would only get in the way
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(file, options, providers=self.providers(args))

    def providers(self, args):
        """The GPU of a KIND_GPU instance. It has no CPU to fall back to: a slow answer would hide the mistake."""
        if args["model_instance_kind"] != "GPU":
            return ["CPUExecutionProvider"]
        return [("CUDAExecutionProvider", {"device_id": int(args["model_instance_device_id"])})]

    def execute(self, requests):
        """The requests of one dynamic batch, each [n, 1, 28, 28], run as a single batch and taken apart again."""
        arrays = [pb_utils.get_input_tensor_by_name(request, self.input).as_numpy() for request in requests]
        (logits,) = self.session.run([self.output], {self.input: np.concatenate(arrays)})
        ends = np.cumsum([len(array) for array in arrays])[:-1]
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self.output, part)])
            for part in np.split(logits * 2, ends)
        ]
