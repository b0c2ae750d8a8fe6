"""The BERT graph as an ONNX file: exported from torch, checked, compared, opened in ONNX Runtime."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.models.reviews import Texts

INPUTS, OUTPUT = ("input_ids", "attention_mask"), "logits"
OPSET = 17
Logits = Callable[[Any, Any], Any]  # ids, mask int64 [batch, length] -> logits float32 [batch, classes]


def export(model: Any, file: Path) -> None:
    """Write `model` (a BERT for classification, eval mode) with dynamic batch and sequence axes.

    The tracing exporter is used: the newer one keeps opset 18 whatever it is asked for, and TensorRT and OpenVINO
    both read opset 17.
    """
    import torch

    plain = copy.deepcopy(model)
    plain.config.return_dict = False  # a tuple can be traced, a dictionary of outputs cannot
    ids = torch.ones(2, 16, dtype=torch.int64)
    axes = {0: "batch", 1: "sequence"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the tracing exporter and its notes on constants
        torch.onnx.export(
            plain, (ids, torch.ones_like(ids)), str(file), dynamo=False, opset_version=OPSET,
            input_names=list(INPUTS), output_names=[OUTPUT],
            dynamic_axes={**dict.fromkeys(INPUTS, axes), OUTPUT: {0: "batch"}},
        )  # fmt: skip


def runtime(file: Path, threads: int = 1) -> Logits:
    """The file in ONNX Runtime on the CPU, all graph optimisations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run([OUTPUT], dict(zip(INPUTS, (ids, mask), strict=True)))[0]


def largest_error(ours: Logits, reference: Logits, cases: list[Texts]) -> float:
    """The largest absolute difference of logits over all cases."""
    return max(float(abs(ours(case.ids, case.mask) - reference(case.ids, case.mask)).max()) for case in cases)
