"""The small networks that Triton serves, written as ONNX with seeded weights, each with its numpy reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

CLASSES = 10
ROWS, FEATURES, OUTPUTS = 8, 8, 2  # one request of an Mlp: [8, 8] -> [8, 2]
OPSET, IR_VERSION = 17, 8


@dataclass(frozen=True)
class Cnn:
    """Two strided 3x3 convolutions, global mean, a linear layer: [n, 3, 16, 16] -> logits [n, 10]."""

    seed: int

    def weights(self) -> dict[str, Any]:
        import numpy

        random = numpy.random.default_rng(self.seed)
        shapes = {"conv1": (16, 3, 3, 3), "conv2": (32, 16, 3, 3), "linear": (32, CLASSES)}
        scales = {"conv1": (2 / 27) ** 0.5, "conv2": (2 / 144) ** 0.5, "linear": 1.0}  # keeps the logits near 1
        return {name: random.normal(0, scales[name], shape).astype(numpy.float32) for name, shape in shapes.items()}

    def save(self, file: Path) -> None:
        from onnx import helper

        window = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
        nodes = [
            helper.make_node("Conv", ["normalized", "conv1"], ["c1"], **window),
            helper.make_node("Relu", ["c1"], ["r1"]),
            helper.make_node("Conv", ["r1", "conv2"], ["c2"], **window),
            helper.make_node("Relu", ["c2"], ["r2"]),
            helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "linear"], ["logits"]),
        ]
        save(file, nodes, self.weights(), ("normalized", ["n", 3, 16, 16]), ("logits", ["n", CLASSES]))

    def reference(self, pixels: Any) -> Any:
        """The same network in numpy, float64."""
        weights = self.weights()
        hidden = convolve(convolve(pixels, weights["conv1"]), weights["conv2"])
        return hidden.mean(axis=(2, 3)) @ weights["linear"]


@dataclass(frozen=True)
class Mlp:
    """`layers` square layers of `hidden` units with ReLU: [n, 8, 8] -> [n, 8, 2]. Its work grows with hidden²."""

    hidden: int
    layers: int
    seed: int

    def weights(self) -> dict[str, Any]:
        import numpy

        random = numpy.random.default_rng(self.seed)
        sizes = [FEATURES, *[self.hidden] * self.layers, OUTPUTS]
        pairs = list(pairwise(sizes))
        return {
            f"w{i}": random.normal(0, (2 / a) ** 0.5, (a, b)).astype(numpy.float32) for i, (a, b) in enumerate(pairs)
        }

    def save(self, file: Path) -> None:
        from onnx import helper

        weights = self.weights()
        nodes, tensor = [], "x"
        for i, name in enumerate(weights):
            last = i == len(weights) - 1
            nodes.append(helper.make_node("MatMul", [tensor, name], ["y" if last else f"m{i}"]))
            if not last:
                nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"]))
            tensor = f"r{i}"
        save(file, nodes, weights, ("x", ["n", ROWS, FEATURES]), ("y", ["n", ROWS, OUTPUTS]))

    def reference(self, x: Any) -> Any:
        """The same network in numpy, float64."""
        import numpy

        *hidden, last = self.weights().values()
        for weight in hidden:
            x = numpy.maximum(x @ weight.astype(numpy.float64), 0)
        return x @ last


def convolve(images: Any, kernel: Any) -> Any:
    """3x3 convolution with stride 2 and padding 1, then ReLU, float64."""
    import numpy

    padded = numpy.pad(images.astype(numpy.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = numpy.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    return numpy.maximum(numpy.einsum("nchwij,ocij->nohw", windows, kernel), 0)


def save(
    file: Path, nodes: Sequence[Any], weights: dict[str, Any], entry: tuple[str, list[Any]], exit: tuple[str, list[Any]]
) -> None:
    """Write a checked ONNX file with one float input and one float output (name, shape)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in (entry, exit)]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, file.stem, *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, file)
