"""A Triton Python-backend model that runs some stages of the image pipeline; executed by Triton's stub.

The parameter `stages` of its config names them in order. One stage: a step of an ensemble. All: the same work as the
ensemble's in a single model. `ort_model.py` (tasks/services/triton_ort_model.py) is copied beside it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy
from ort_model import TritonPythonModel as OrtModel
from ort_model import load_session

SIDE = 16
MEAN = numpy.array([0.485, 0.456, 0.406], numpy.float32)
STD = numpy.array([0.229, 0.224, 0.225], numpy.float32)


class TritonPythonModel(OrtModel):
    """One instance: the chain of stages on a batch."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batched = True
        self.stages = config["parameters"]["stages"]["string_value"].split(",")
        if "model" in self.stages:
            self.session = load_session(args, config)

    def run(self, inputs: list[Any]) -> list[Any]:
        for stage in self.stages:
            inputs = getattr(self, stage)(*inputs)
        return inputs

    def normalize(self, images: Any) -> list[Any]:
        """uint8 [n, h, w, 3] with h and w multiples of 16 -> float32 [n, 3, 16, 16]: block means, standardised."""
        n, height, width, channels = images.shape
        blocks = images.astype(numpy.float32).reshape(n, SIDE, height // SIDE, SIDE, width // SIDE, channels)
        pixels = (blocks.mean(axis=(2, 4)) / 255 - MEAN) / STD
        return [numpy.ascontiguousarray(pixels.transpose(0, 3, 1, 2))]

    def model(self, pixels: Any) -> list[Any]:
        return list(self.session.run(None, {self.session.get_inputs()[0].name: pixels}))

    def softmax(self, logits: Any) -> list[Any]:
        """float32 [n, classes] -> probabilities of the same shape."""
        shifted = numpy.exp(logits - logits.max(axis=1, keepdims=True))
        return [shifted / shifted.sum(axis=1, keepdims=True)]

    def top_label(self, probabilities: Any) -> list[Any]:
        """float32 [n, classes] -> the best class's name [n, 1] and its probability [n, 1]: plain Python on purpose."""
        labels, scores = [], []
        for row in probabilities.tolist():
            best = max(range(len(row)), key=row.__getitem__)
            labels.append([f"class-{best}".encode()])
            scores.append([row[best]])
        return [numpy.array(labels, dtype=object), numpy.array(scores, numpy.float32)]
