"""The precision is written into the ONNX file: TensorRT 11 only builds strongly typed networks.

(The builder flags FP16 and INT8 and the calibrators of TensorRT 8 to 10 are gone; files made here also build with 10.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.engines.contract import Build


def onnx_file(plan: Build) -> Path:
    """The ONNX file in the asked precision: the given one, 16-bit floats, or Q/DQ pairs around the multiplications."""
    if plan.precision == "fp32":
        return plan.onnx
    file = plan.work / f"{plan.onnx.stem}.{plan.precision}.onnx"
    return half(plan.onnx, file) if plan.precision == "fp16" else quantized(plan, file)


def half(source: Path, file: Path) -> Path:
    """Weights and arithmetic in fp16; inputs and logits keep their types."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), file)
    return file


def quantized(plan: Build, file: Path) -> Path:
    """Static INT8: symmetric ranges (TensorRT knows no zero points), float biases, calibrated on real inputs."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if plan.calibration is None:
        raise UserError("int8 needs calibration inputs")
    prepared = file.with_suffix(".prepared.onnx")
    quant_pre_process(str(plan.onnx), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(file), reader(plan), quant_format=QuantFormat.QDQ, per_channel=plan.per_channel,
        op_types_to_quantize=["MatMul", "Gemm", "Conv"], activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    )  # fmt: skip
    return file


def reader(plan: Build) -> Any:
    """The calibration inputs in the form that ONNX Runtime reads them."""
    from onnxruntime.quantization import CalibrationDataReader

    waiting: Iterator[dict[str, Any]] = (dict(zip(plan.inputs, batch, strict=True)) for batch in plan.calibration or ())
    return type("Reader", (CalibrationDataReader,), {"get_next": lambda self: next(waiting, None)})()
