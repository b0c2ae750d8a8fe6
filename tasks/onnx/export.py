"""Export the small BERT to ONNX, prove the file against torch, then time it in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tasks import api
from tasks.models import bert, reviews
from tasks.onnx import graph, probe
from tasks.services import timing


class Params(api.Params):
    file: str = "bert.onnx"  # written into the day's folder
    batch: int = 1
    seq_len: int = 128
    budget_s: float = 4.0
    threads: int = 1


class Point(api.Params):
    model: Literal["bert"] = "bert"


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one request in ONNX Runtime",
    "latency_p95_ms": "95th percentile of the same requests",
    "max_abs_error": "largest difference of a logit from torch, batch 1/8/16 x length 32/128/512",
    "file_size_mb": "size of the ONNX file, 10^6 bytes",
    "peak_rss_mb": "peak resident memory of a process that only runs this file, 10^6 bytes",
    "accuracy": "share of held-out texts that the ONNX file classifies right",
}
BATCHES, LENGTHS = (1, 8, 16), (32, 128, 512)
TOLERANCE = 1e-4


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=2, settings=("model",))]


def run(params: Params, ctx: api.Context) -> None:
    model, facts = bert.load(ctx.settings, ctx.seed, ctx.say)
    file = ctx.day / params.file
    staged = ctx.scratch / params.file
    graph.export(model, staged)
    error = prove(staged, bert.torch_logits(model), bert.encoder(ctx.settings).max_positions)
    file.write_bytes(staged.read_bytes())
    ctx.say(f"{params.file} exported: at most {error:.1e} from torch")
    score = bert.accuracy(graph.runtime(file), bert.held_out(bert.encoder(ctx.settings), ctx.seed))
    note = f"weights trained on the spot, not random and not downloaded: {facts.accuracy:.3f} of held-out texts right"
    for point in ctx.points:
        measured = probe.run(file, probe.Shape(params.batch, params.seq_len, params.budget_s, params.threads, ctx.seed))
        latency = timing.spread(measured.samples)
        metrics = {
            "latency_p50_ms": latency.p50,
            "latency_p95_ms": latency.p95,
            "max_abs_error": error,
            "file_size_mb": file.stat().st_size / 1e6,
            "peak_rss_mb": measured.peak_rss_mb,
            "accuracy": score,
        }
        ctx.record(point, metrics, {"latency_p50_ms": latency}, note)


def prove(file: Path, reference: graph.Logits, longest: int) -> float:
    """The largest error against `reference` at every batch and length; UserError if it is invalid or wrong."""
    import onnx

    onnx.checker.check_model(str(file), full_check=True)
    cases = [
        reviews.texts(batch, length, seed=batch, test=True)
        for batch in BATCHES
        for length in LENGTHS
        if length <= longest
    ]
    error = graph.largest_error(graph.runtime(file), reference, cases)
    if error > TOLERANCE:
        raise api.UserError(
            f"ONNX Runtime differs from torch by {error:.1e}, more than {TOLERANCE:.0e}", where=file.name
        )
    return error
