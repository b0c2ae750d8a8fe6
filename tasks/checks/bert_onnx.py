"""A BERT as an ONNX file: valid, batch and sequence dynamic, and equal to the torch model it was exported from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.models import bert, reviews
from tasks.onnx import graph, validity

BATCHES, LENGTHS = (1, 8, 16), (32, 128, 512)
TOLERANCE = 1e-4


class Params(api.Params):
    reference: str = ""  # safetensors file beside the deliverable; empty: the small BERT of the settings
    encoder: bert.Encoder = bert.Encoder()  # the shape of that file's model


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=2, settings=("model",))


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.stat().st_size:
        return Verdict(False, f"{file.name} is missing or empty")
    if problem := validity.invalid(file) or fixed_axes(file):
        return Verdict(False, problem)
    reference = bert.torch_logits(reference_model(file, params, work))
    ours = graph.runtime(file)
    errors: dict[str, float] = {}
    for batch in BATCHES:
        for length in LENGTHS:
            texts = reviews.texts(batch, length, seed=work.seed, test=True)
            shape = f"{batch}x{length}"
            try:
                errors[shape] = graph.largest_error(ours, reference, [texts])
            except Exception as error:  # ONNX Runtime's own exceptions have no common base
                return Verdict(False, f"ONNX Runtime cannot run batch x length {shape}: {error}", errors)
    worst = max(errors, key=lambda shape: errors[shape])
    if not errors[worst] <= TOLERANCE:
        what = f"batch x length {worst} differs from torch by {errors[worst]:.1e}, more than {TOLERANCE:.0e}"
        return Verdict(False, what, errors)
    return Verdict(True, f"equals torch within {errors[worst]:.1e} at {len(errors)} shapes", errors)


def fixed_axes(file: Path) -> str:
    """What is wrong with the inputs' names or axes; empty when batch and sequence are dynamic."""
    import onnx

    inputs: Mapping[str, Any] = {
        given.name: given.type.tensor_type.shape.dim for given in onnx.load(file, load_external_data=False).graph.input
    }
    if set(inputs) != set(graph.INPUTS):
        return f"its inputs are {sorted(inputs)}, not {sorted(graph.INPUTS)}"
    for name, axes in inputs.items():
        fixed = [axis.dim_value for axis in axes if not axis.dim_param]
        if len(axes) != 2 or fixed:
            return f"{name} has the fixed sizes {fixed}: batch and sequence must be dynamic"
    return ""


def reference_model(file: Path, params: Params, work: api.Workspace) -> Any:
    if params.reference:
        return bert.restore(params.encoder, file.with_name(params.reference))
    return bert.load(work.settings, work.seed)[0]
