"""OpenVINO on the CPU: the stand-in where a TensorRT question has an equivalent.

Equivalents: model cache directory for engine cache, dynamic dimensions for optimization profiles, the inference
precision hint for FP16, NNCF post-training quantization for INT8. It has no workspace limit and no tactic sources.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.engines.contract import Build

MULTIPLY = ("FullyConnected", "MatMul", "Convolution")


@dataclass
class OpenVinoEngine:
    request: Any
    ran: str
    size_bytes: int
    inputs: tuple[str, ...]

    def logits(self, *inputs: Any) -> Any:
        return self.request.infer(dict(zip(self.inputs, inputs, strict=True)))[0].copy()

    def blob(self) -> bytes:
        """The compiled model as a file's content: what `load` reads."""
        return bytes(self.request.get_compiled_model().export_model().getvalue())


def build(plan: Build) -> OpenVinoEngine:
    core = start()
    if plan.cache:
        core.set_property({"CACHE_DIR": str(plan.cache)})
    source, size = plan.onnx, plan.onnx.stat().st_size
    if plan.precision != "fp32":
        source, size = convert(core, plan)
    hint = half_type(core) if plan.precision == "fp16" else "f32"
    model = bounded(core, source, plan) if plan.image else str(source)
    compiled = core.compile_model(model, "CPU", {**options(plan), "INFERENCE_PRECISION_HINT": hint})
    return OpenVinoEngine(compiled.create_infer_request(), precision_of(compiled), size, plan.inputs)


def load(blob: bytes, plan: Build) -> OpenVinoEngine:
    """The engine of an exported blob, on the same CPU and version of OpenVINO."""
    compiled = start().import_model(blob, "CPU", options(plan))
    return OpenVinoEngine(compiled.create_infer_request(), precision_of(compiled), len(blob), plan.inputs)


def options(plan: Build) -> dict[str, Any]:
    return {"INFERENCE_NUM_THREADS": plan.threads, "PERFORMANCE_HINT": "LATENCY"}


def bounded(core: Any, source: Path, plan: Build) -> Any:
    """The model with the batch bounded from below and above; it knows no shape to optimise for."""
    import openvino

    model = core.read_model(str(source))
    low, _, high = plan.batch
    shapes = {name: openvino.PartialShape([openvino.Dimension(low, high), *plan.image]) for name in plan.inputs}
    model.reshape(shapes)
    return model


def start() -> Any:
    os.environ.setdefault("OPENVINO_TELEMETRY_DISABLE", "1")
    import openvino

    return openvino.Core()


def half_type(core: Any) -> str:
    """The 16-bit float that this CPU computes in: f16 needs AMX-FP16, bf16 AVX512-BF16; else only f32 is left."""
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return next((hint for name, hint in (("FP16", "f16"), ("BF16", "bf16")) if name in able), "f32")


def convert(core: Any, plan: Build) -> tuple[Path, int]:
    """The model in OpenVINO's own format with 16-bit weights, or quantized to 8 bit; its size in bytes."""
    import openvino

    model = core.read_model(str(plan.onnx))
    if plan.precision == "int8":
        model = quantize(model, plan)
    file = plan.work / f"{plan.precision}.xml"
    openvino.save_model(model, str(file), compress_to_fp16=plan.precision == "fp16")
    return file, file.stat().st_size + file.with_suffix(".bin").stat().st_size


def quantize(model: Any, plan: Build) -> Any:
    """Post-training INT8 with NNCF: weights per channel, activations by the ranges seen on the calibration inputs."""
    import logging

    import nncf

    if plan.calibration is None:
        raise UserError("int8 needs calibration inputs")
    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset([dict(zip(plan.inputs, batch, strict=True)) for batch in plan.calibration])
    kind = None if plan.image else nncf.ModelType.TRANSFORMER
    return nncf.quantize(model, dataset, model_type=kind, subset_size=len(plan.calibration))


def precision_of(compiled: Any) -> str:
    """The precisions in which the compiled model's multiplications really run, e.g. `bf16` or `i8+f32`."""
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        if "layerType" in info and info["layerType"].astype(str) in MULTIPLY:
            found.append(info["runtimePrecision"].astype(str))
    return "+".join(sorted(set(found))) or str(compiled.get_property("INFERENCE_PRECISION_HINT"))
