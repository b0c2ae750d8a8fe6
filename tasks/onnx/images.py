"""The digit networks as ONNX files: exported, opened in ONNX Runtime, compared. One input, one output."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.models import digits

INPUT, OUTPUT = "input", "logits"
OPSET = 17


def export(model: Any, file: Path, network: digits.Network, *, opset: int = OPSET, folding: bool = True) -> None:
    """Write `model` with a dynamic batch axis, through the tracing exporter, which keeps to the asked opset."""
    import torch

    example = torch.zeros(2, *digits.SHAPES[network])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the tracing exporter and its notes on constants
        torch.onnx.export(
            model, (example,), str(file), dynamo=False, opset_version=opset, do_constant_folding=folding,
            input_names=[INPUT], output_names=[OUTPUT], dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )  # fmt: skip


def dynamo_opset(model: Any, file: Path, network: digits.Network, opset: int) -> int:
    """Export with the newer exporter and return the opset that it really wrote."""
    import onnx
    import torch

    export_dynamo(model, (torch.zeros(2, *digits.SHAPES[network]),), file, opset)
    return int(next(one.version for one in onnx.load(file).opset_import if not one.domain))


def export_dynamo(model: Any, inputs: tuple[Any, ...], file: Path, opset: int, **more: Any) -> None:
    """The newer exporter (torch.export), with a dynamic batch axis and without its talk."""
    import contextlib
    import io
    import logging

    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.CRITICAL)  # a failed opset conversion prints a traceback
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, inputs, str(file), dynamo=True, opset_version=opset, input_names=[INPUT], output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, **more,
        )  # fmt: skip


def runtime(file: Path, threads: int = 1) -> digits.Images:
    """The file in ONNX Runtime on the CPU, all graph optimisations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def agree(ours: Any, reference: Any, tolerance: float, what: str) -> float:
    """The largest difference of two arrays of logits; UserError above the tolerance: nothing wrong is ever timed."""
    error = float(abs(ours - reference).max())
    if not error <= tolerance:
        raise UserError(f"logits differ from the reference by {error:.1e}, more than {tolerance:.0e}", where=what)
    return error
