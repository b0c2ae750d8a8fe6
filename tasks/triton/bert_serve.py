"""The day's BERT behind a real Triton: batches of several sizes through ONNX Runtime in the Python backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from tasks import api
from tasks.models import reviews
from tasks.onnx import graph
from tasks.services import model_repository, perf_analyzer, triton
from tasks.triton.client import Client

MODEL = "bert"
TOLERANCE = 1e-4
INPUT_POOL = 32
CONFIG = """
backend: "python"
max_batch_size: {largest}
input [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters {{ key: "intra_op_num_threads" value {{ string_value: "{threads}" }} }}
"""


class Params(api.Params):
    file: str = "bert.onnx"  # in the day's folder
    seq_len: int = 64
    concurrency: int = 1  # clients in a closed loop; one shows the latency of a batch without queueing
    threads: int = 1
    window_ms: int = 800


class Point(api.Params):
    batch: int = 1


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one request as the client sees it",
    "latency_p95_ms": "95th percentile of the same requests",
    "latency_p99_ms": "99th percentile of the same requests",
    "throughput_samples_s": "texts per second",
    "max_abs_error": "largest difference of a logit from ONNX Runtime without Triton",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="Triton", environment="triton", memory_gb=2)]


def run(params: Params, ctx: api.Context) -> None:
    file = ctx.day / params.file
    if not file.is_file():
        raise api.UserError(f"{params.file} is not there", remedy="run the experiment that exports it first")
    largest = max(point.batch for point in ctx.points)
    config = CONFIG.format(largest=largest, classes=len(reviews.LABELS), threads=params.threads)
    repository = ctx.scratch / "models"
    model_repository.add_onnx_model(repository, MODEL, config, file)
    reference = graph.runtime(file)
    with triton.serve(repository, ctx.out / "triton.log") as server:
        for point in ctx.points:
            error = check(server.grpc, reference, point.batch, params, ctx)
            load = measure(server.grpc, point.batch, params, ctx.seed)
            metrics = {
                "latency_p50_ms": load.latency.p50,
                "latency_p95_ms": load.latency.p95,
                "latency_p99_ms": load.latency.p99,
                "throughput_samples_s": load.throughput_rps,  # perf_analyzer counts the texts of a batch, not requests
                "max_abs_error": error,
            }
            ctx.record(point, metrics, {"latency_p50_ms": load.latency}, load.note)


def check(grpc: str, reference: graph.Logits, batch: int, params: Params, ctx: api.Context) -> float:
    """The largest error of one batch against ONNX Runtime; UserError when Triton answers something else."""
    texts = reviews.texts(batch, params.seq_len, seed=ctx.seed, test=True)
    with closing(Client(grpc)) as client:
        answer = client.infer(MODEL, {"input_ids": texts.ids, "attention_mask": texts.mask})[graph.OUTPUT]
    expected = reference(texts.ids, texts.mask)
    if answer.shape != expected.shape:
        raise api.UserError(f"Triton answered logits of shape {answer.shape} instead of {expected.shape}")
    error = float(abs(answer - expected).max())
    if error > TOLERANCE:
        raise api.UserError(f"Triton's logits differ from ONNX Runtime's by {error:.1e}, more than {TOLERANCE:.0e}")
    return error


def measure(grpc: str, batch: int, params: Params, seed: int) -> perf_analyzer.Load:
    """perf_analyzer with a pool of different texts."""
    texts = reviews.texts(INPUT_POOL, params.seq_len, seed=seed, test=True, full=True)
    inputs: list[dict[str, Any]] = [
        {"input_ids": ids, "attention_mask": mask} for ids, mask in zip(texts.ids, texts.mask, strict=True)
    ]
    plan = perf_analyzer.Plan(MODEL, inputs, params.concurrency, batch, window_ms=params.window_ms)
    return perf_analyzer.measure(plan, grpc)
