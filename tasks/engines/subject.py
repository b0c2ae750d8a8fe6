"""What the measurements of `engine_build` work on: the ONNX file, its reference, fresh texts, the backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import api
from tasks.engines import openvino, ort, tensorrt
from tasks.engines.contract import Backend, Build, Engine
from tasks.engines.points import Params
from tasks.models import bert, reviews
from tasks.onnx import graph
from tasks.services import timing

BACKENDS: Mapping[str, Backend] = {"TensorRT": tensorrt, "OpenVINO": openvino, "ONNX Runtime": ort}
INPUT_POOL = 8
CALIBRATION_BATCH = 10
CALIBRATION_SEED = 1  # added to the run's seed: other texts than those of the training


@dataclass(frozen=True)
class Subject:
    """`torch` is the model itself, `fp32` the ONNX file in ONNX Runtime; `held_out` texts were not trained on."""

    onnx: Path
    torch: graph.Logits
    fp32: graph.Logits
    held_out: reviews.Texts

    def plan(self, params: Params, ctx: api.Context, **changes: Any) -> Build:
        return Build(self.onnx, ctx.scratch, threads=params.threads, **changes)


def prepare(params: Params, ctx: api.Context) -> Subject:
    """The day's ONNX file, or without one a fresh export. UserError when it differs from the model."""
    model, _ = bert.load(ctx.settings, ctx.seed, ctx.say)
    file = ctx.day / params.file if params.file else ctx.scratch / "bert.onnx"
    if not params.file:
        graph.export(model, file)
    if not file.is_file():
        raise api.UserError(f"{params.file} is not there", remedy="run the experiment that exports it first")
    texts = bert.held_out(bert.encoder(ctx.settings), ctx.seed)
    subject = Subject(file, bert.torch_logits(model), graph.runtime(file, params.threads), texts)
    agree(subject.fp32, subject.torch, reviews.texts(4, params.seq_len, seed=ctx.seed, test=True), 1e-3)
    return subject


def agree(ours: graph.Logits, reference: graph.Logits, texts: reviews.Texts, tolerance: float) -> float:
    """The largest error; UserError above the tolerance: nothing wrong is ever timed."""
    error = graph.largest_error(ours, reference, [texts])
    if not error <= tolerance:
        raise api.UserError(f"logits differ from the reference by {error:.1e}, more than {tolerance:.0e}")
    return error


def calibration(params: Params, ctx: api.Context) -> list[tuple[Any, Any]]:
    """Batches of ids and masks of training texts."""
    length = bert.encoder(ctx.settings).train_length
    texts = reviews.texts(params.calibration_texts, length, seed=ctx.seed + CALIBRATION_SEED, test=False)
    starts = range(0, len(texts.labels), CALIBRATION_BATCH)
    return [(texts.ids[at : at + CALIBRATION_BATCH], texts.mask[at : at + CALIBRATION_BATCH]) for at in starts]


def requests(batch: int, length: int, seed: int) -> list[tuple[Any, Any]]:
    """A pool of different requests: ids and mask int64 [batch, length]."""
    texts = reviews.texts(batch * INPUT_POOL, length, seed=seed, test=True, full=True)
    parts = [slice(at, at + batch) for at in range(0, len(texts.labels), batch)]
    return [(texts.ids[part], texts.mask[part]) for part in parts]


def clock(engine: Engine, batch: int, params: Params, seed: int) -> tuple[dict[str, float], api.Spread]:
    """Latency and throughput of a closed loop of different requests."""
    samples = timing.repeat(engine.logits, requests(batch, params.seq_len, seed), params.budget_s)
    latency = timing.spread(samples)
    metrics = {
        "latency_p50_ms": latency.p50,
        "latency_p95_ms": latency.p95,
        "latency_p99_ms": latency.p99,
        "throughput_samples_s": batch * len(samples) * 1000 / sum(samples),
    }
    return metrics, latency
