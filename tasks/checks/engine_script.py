"""A script that runs a TensorRT engine: its logits equal ONNX Runtime's, or it refuses clearly without TensorRT.

It is always rehearsed on `tensorrt_stage`; where TensorRT and a GPU are there, a real engine is built and run as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.checks import tensorrt_stage
from tasks.engines import pictures, tensorrt
from tasks.models import digits
from tasks.onnx import images, witness

SHOWN, BATCH = 20, 8
REHEARSED, REAL = 1e-5, 1e-2  # of the largest logit; a GPU multiplies in TF32
PROFILE = {images.INPUT: [[1, 1, 28, 28], [8, 1, 28, 28], [64, 1, 28, 28]]}


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="Python", environment="torch", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return Verdict(False, f"{file.name} is missing or empty")
    if problem := tensorrt_stage.without_tensorrt(file, work.scratch, ["--engine", "absent.engine"]):
        return Verdict(False, problem)
    onnx, engine, log = (work.scratch / name for name in ("mlp.onnx", "mlp.engine", "calls.jsonl"))
    images.export(digits.load("mlp", work.seed)[0], onnx, "mlp")
    engine.write_bytes(tensorrt_stage.plan_file(onnx.read_bytes(), PROFILE))
    staged = tensorrt_stage.environment(log)
    if problem := wrong_run(file, engine, onnx, staged, REHEARSED, work) or wrong_calls(log):
        return Verdict(False, problem)
    if not tensorrt_stage.has_tensorrt():
        said = "rehearsed without TensorRT: calls and logits are right, nothing measured"
        return Verdict(True, said, {"real": False})
    engine.write_bytes(tensorrt.serialize(pictures.plan("mlp", onnx, work.scratch)))
    if problem := wrong_run(file, engine, onnx, {}, REAL, work):
        return Verdict(False, problem)
    return Verdict(True, "ran a real engine and equals ONNX Runtime", {"real": True})


def wrong_run(
    file: Path, engine: Path, onnx: Path, changes: Mapping[str, str], limit: float, work: api.Workspace
) -> str:
    """What is wrong with how the script ran and with its answers; empty when nothing is."""
    import numpy

    shown, written = work.scratch / "shown.npy", work.scratch / "logits.npy"
    written.unlink(missing_ok=True)
    digits_shown = digits.split(work.seed)[1].images[:SHOWN]
    numpy.save(shown, digits_shown)
    arguments = ["--engine", str(engine), "--images", str(shown), "--batch", str(BATCH), "--logits", str(written)]
    done = tensorrt_stage.execute(file, arguments, changes)
    if done.returncode:
        return f"with TensorRT it ended with {done.returncode}: {tensorrt_stage.last_line(done.stderr)}"
    try:
        logits: Any = numpy.load(written)
        said = witness.predictions(done.stdout, SHOWN, file.name)
    except (OSError, ValueError, api.UserError) as error:
        return f"its logits or predictions are not there: {error}"
    reference = images.runtime(onnx)(digits_shown)
    if logits.shape != reference.shape:
        return f"its logits have the shape {logits.shape}, not {reference.shape}"
    if not (error_is := pictures.difference(logits, reference)) <= limit:
        return f"its logits differ from ONNX Runtime's by {error_is:.1e} of the largest"
    return "" if (said == logits.argmax(-1)).all() else "its predictions are not those of its logits"


def wrong_calls(log: Path) -> str:
    """What the script did not ask TensorRT for; empty when nothing is amiss."""
    if not tensorrt_stage.calls(log, "deserialize_cuda_engine"):
        return "it never deserialized the engine"
    sizes = [call["shapes"][0][0] for call in tensorrt_stage.calls(log, "execute_async_v3")]
    if not sizes or max(sizes) != BATCH:
        return f"the engine ran batches of {sorted(set(sizes))}, not of {BATCH}"
    return ""
