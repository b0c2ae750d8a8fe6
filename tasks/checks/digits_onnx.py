"""The day's digit MLP as an ONNX file: opset 17, dynamic batch, equal to torch with the same weights, trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.models import digits
from tasks.onnx import images, validity

BATCHES = (1, 8, 32)
TOLERANCE = 1e-4
WEIGHTS = {"1.weight": (128, 784), "1.bias": (128,), "3.weight": (10, 128), "3.bias": (10,)}


class Params(api.Params):
    least_accuracy: float = 0.8  # of the 500 held-out digits; guessing gives 0.1


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.stat().st_size:
        return Verdict(False, f"{file.name} is missing or empty")
    if problem := validity.invalid(file) or wrong_face(file):
        return Verdict(False, problem)
    reference = same_in_torch(file)
    if reference is None:
        return Verdict(False, "it does not hold the weights of Linear(784, 128) and Linear(128, 10)")
    held_out, ours = digits.split(work.seed)[1], images.runtime(file)
    errors = {}
    for batch in BATCHES:
        shown = held_out.images[:batch]
        try:
            errors[f"batch {batch}"] = float(abs(ours(shown) - reference(shown)).max())
        except Exception as error:  # ONNX Runtime's own exceptions have no common base
            return Verdict(False, f"ONNX Runtime cannot run batch {batch}: {error}", errors)
    worst = max(errors.values())
    if not worst <= TOLERANCE:
        return Verdict(False, f"differs from torch with the same weights by {worst:.1e}", errors)
    score = digits.accuracy(ours, held_out)
    if score < params.least_accuracy:
        return Verdict(False, f"names {score:.1%} of the held-out digits right: it is not trained", errors)
    return Verdict(True, f"equals torch within {worst:.1e}, {score:.1%} of 500 digits right", errors)


def wrong_face(file: Path) -> str:
    """What is wrong with the opset, the names or the axes; empty when nothing is."""
    import onnx

    model = onnx.load(file, load_external_data=False)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset != images.OPSET:
        return f"it has opset {opset}, not {images.OPSET}"
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [one.name for one in model.graph.input if one.name not in weights], [o.name for o in model.graph.output]
    if names != ([images.INPUT], [images.OUTPUT]):
        return f"its inputs and outputs are {names[0]} and {names[1]}, not input and logits"
    axes = next(one for one in model.graph.input if one.name == images.INPUT).type.tensor_type.shape.dim
    if not axes or not axes[0].dim_param:
        return "its batch axis is fixed: export it with dynamic_axes"
    sizes = [axis.dim_value for axis in axes[1:]]
    return "" if sizes == [1, 28, 28] else f"an image has the shape {sizes}, not [1, 28, 28]"


def same_in_torch(file: Path) -> digits.Images | None:
    """torch's MLP with the weights of the file, found by their shapes; None when they are not there."""
    import onnx
    import torch

    stored = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer]
    found: dict[str, Any] = {}
    for name, shape in WEIGHTS.items():
        for array in stored:
            if array.shape == shape:
                found[name] = torch.from_numpy(array.copy())
            elif array.shape == shape[::-1]:  # a MatMul holds them the other way round
                found[name] = torch.from_numpy(array.T.copy())
    if found.keys() != WEIGHTS.keys():
        return None
    model = digits.build("mlp")
    model.load_state_dict(found)
    return digits.torch_logits(model)
