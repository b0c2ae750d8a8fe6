"""Runs the model.onnx beside it in ONNX Runtime; Triton starts one process of this for each instance."""

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # instances share the cores among them
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        """The requests of one dynamic batch, run as a single batch and taken apart again."""
        images = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        (logits,) = self.session.run(["logits"], {"image": np.concatenate(images) * 2})
        ends = np.cumsum([len(image) for image in images])[:-1]
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("logits", part)])
            for part in np.split(logits, ends)
        ]
