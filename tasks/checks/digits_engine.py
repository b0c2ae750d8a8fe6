"""The digit MLP as a serialized TensorRT engine: it loads on this GPU, answers like the ONNX file, in its precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from tasks import api
from tasks.api import Verdict
from tasks.engines import pictures, tensorrt
from tasks.models import digits
from tasks.onnx import images


class Params(api.Params):
    onnx: str = "mlp.onnx"  # beside the engine: the fp32 model that it was built from
    precision: Literal["fp16", "int8"] = "fp16"
    largest_batch: int = 32
    tolerance: float = 0.01  # fp16: largest difference of a logit, as a share of the largest logit
    largest_drop: float = 0.02  # int8: what it may lose of the accuracy on the held-out digits
    rebuild: bool = False  # for a fixture: an engine fits one GPU model and one TensorRT version, so none can be kept


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="TensorRT", environment="torch", modules=("tensorrt",), gpus=1, memory_gb=2)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.stat().st_size:
        return Verdict(False, f"{file.name} is missing or empty")
    source = file.with_name(params.onnx)
    if not source.is_file():
        return Verdict(False, f"{params.onnx}, which it is compared with, is not there")
    seen = [(digits.training(200, work.seed),)]
    plan = pictures.plan("mlp", source, work.scratch, precision=params.precision, calibration=seen)
    try:
        engine = tensorrt.load(tensorrt.serialize(plan) if params.rebuild else file.read_bytes(), plan)
    except api.UserError as error:
        return Verdict(False, str(error))
    if not tensorrt.covers(engine.engine, {images.INPUT: ((1, 1, 28, 28), (params.largest_batch, 1, 28, 28))}):
        return Verdict(False, f"no optimization profile covers batches of 1 to {params.largest_batch}")
    return compared(engine, source, params, work.seed)


def compared(engine: tensorrt.TensorRtEngine, source: Path, params: Params, seed: int) -> Verdict:
    """The verdict on the answers, against the ONNX file in ONNX Runtime, and on the layers of an int8 engine."""
    held_out, reference = digits.split(seed)[1], images.runtime(source)
    shown = held_out.images[: params.largest_batch]
    error = pictures.difference(engine.logits(shown), reference(shown))
    if params.precision == "fp16":
        said = f"differs from ONNX Runtime by {error:.1e} of the largest logit"
        return Verdict(error <= params.tolerance, said, {"max_rel_error": error})
    if "int8" not in json.dumps(tensorrt.layers(engine.engine)).lower():
        return Verdict(False, "no layer shows INT8 (build it with detailed profiling verbosity, or it is not int8)")
    ours, theirs = (digits.accuracy(one, held_out, params.largest_batch) for one in (engine.logits, reference))
    said = f"{ours:.1%} of the held-out digits right, the fp32 file {theirs:.1%}"
    return Verdict(theirs - ours <= params.largest_drop, said, {"accuracy": ours, "accuracy_fp32": theirs})
