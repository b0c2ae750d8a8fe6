"""Run the day's ONNX file in ONNX Runtime at several sequence lengths, each in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks import api
from tasks.models import bert, reviews
from tasks.onnx import graph, probe
from tasks.services import timing


class Params(api.Params):
    file: str = "bert.onnx"  # in the day's folder
    batch: int = 1
    budget_s: float = 3.0  # for each length
    threads: int = 1


class Point(api.Params):
    seq_len: int = 128


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one request",
    "latency_p95_ms": "95th percentile of the same requests",
    "throughput_samples_s": "texts per second of one closed loop",
    "peak_rss_mb": "peak resident memory of a process that only runs this length, 10^6 bytes",
}
TOLERANCE = 1e-3


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=1, settings=("model",))]


def run(params: Params, ctx: api.Context) -> None:
    file = ctx.day / params.file
    if not file.is_file():
        raise api.UserError(f"{params.file} is not there", remedy="run the experiment that exports it first")
    model, _ = bert.load(ctx.settings, ctx.seed, ctx.say)
    reference, session = bert.torch_logits(model), graph.runtime(file)
    for point in ctx.points:
        case = reviews.texts(2, point.seq_len, seed=ctx.seed, test=True, full=True)
        if (error := graph.largest_error(session, reference, [case])) > TOLERANCE:
            raise api.UserError(f"its logits are {error:.1e} from torch's at length {point.seq_len}", where=params.file)
        shape = probe.Shape(params.batch, point.seq_len, params.budget_s, params.threads, ctx.seed)
        measured = probe.run(file, shape)
        latency = timing.spread(measured.samples)
        metrics = {
            "latency_p50_ms": latency.p50,
            "latency_p95_ms": latency.p95,
            "throughput_samples_s": params.batch * len(measured.samples) * 1000 / sum(measured.samples),
            "peak_rss_mb": measured.peak_rss_mb,
        }
        ctx.record(point, metrics, {"latency_p50_ms": latency})
