"""The day's own inference script at several opsets, optimisation levels and batches, timed under witness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks import api
from tasks.models import digits
from tasks.onnx import images, witness
from tasks.services import timing


class Params(api.Params):
    network: digits.Network = "mlp"
    deliver: str = ""  # the day's file that is written with opset 17
    script: str = "onnx_infer.py"  # the day's file that opens the sessions
    provider: Literal["cpu", "cuda"] = "cpu"  # cuda: the CPU stands in where there is none
    batch: int = 1  # where the batch is no axis
    seconds: float = 2.0  # how long the script times each point, in each process
    processes: int = 1  # a session is loaded once in each: medians of load time and memory
    threads: int = 1
    both_exporters: bool = False  # also export with the newer one, to see which opset it writes


class Point(api.Params):
    opset: Literal[13, 17] = 17
    opt_level: Literal["disable_all", "basic", "extended", "all"] = "all"
    batch: int | None = None


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one run of a whole batch",
    "latency_p95_ms": "95th percentile of the same runs",
    "throughput_samples_s": "images per second of one closed loop",
    "session_load_ms": "from asking for the session to having it: the graph read and optimised",
    "peak_rss_mb": "peak resident memory of the script's process, 10^6 bytes",
    "max_abs_error": "largest difference of a logit from torch",
    "accuracy": "share of held-out digits that the script names right",
    "dynamo_opset": "the opset that the newer (dynamo) exporter wrote when it was asked for this one",
}
TOLERANCE, CUDA_TOLERANCE = 1e-4, 1e-2  # the CUDA provider multiplies in TF32
CUDA, CPU = "ONNX Runtime CUDA EP", "ONNX Runtime CPU EP"
WARM_UP = 10


def needs(params: Params) -> Sequence[api.Needs]:
    if params.provider == "cpu":
        return [api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=1)]
    native = api.Needs(backend=CUDA, environment="torch", modules=("onnxruntime-gpu",), gpus=1, memory_gb=2)
    return [native, api.Needs(backend=CPU, stand_in_for=CUDA, environment="torch", memory_gb=1)]


def run(params: Params, ctx: api.Context) -> None:
    model, facts = digits.load(params.network, ctx.seed, ctx.say)
    if params.deliver:
        images.export(model, ctx.scratch / params.deliver, params.network)
        (ctx.day / params.deliver).write_bytes((ctx.scratch / params.deliver).read_bytes())
    held_out, pictures = digits.split(ctx.seed)[1], ctx.scratch / "images.npy"
    fed = save(held_out, params.network, pictures)
    subject = Subject(model, fed, digits.torch_logits(model)(fed).argmax(-1), pictures)
    for point in ctx.points:
        file = ctx.scratch / f"{params.network}-{point.opset}.onnx"
        if not file.exists():
            images.export(model, file, params.network, opset=point.opset)
        runs = [measure(point, params, ctx, file, subject) for _ in range(params.processes)]
        metrics, spread = figures(runs, point.batch or params.batch)
        metrics["accuracy"] = float((runs[0].named == held_out.labels).mean())
        if params.both_exporters:
            written = images.dynamo_opset(model, ctx.scratch / "dynamo.onnx", params.network, point.opset)
            metrics["dynamo_opset"] = written
        provider = runs[0].session.providers[0]
        ctx.record(point, metrics, spread, f"{params.network}, {facts.parameters} weights, on {provider}")


@dataclass(frozen=True)
class Subject:
    """The network, the images as they are fed and as the file of them, and the digits that torch names."""

    model: Any
    fed: Any
    right: Any
    pictures: Path


@dataclass(frozen=True)
class Run:
    """One process of the script: its session, its peak memory in MB, the digits that it named, its error."""

    session: witness.Session
    peak_rss_mb: float
    named: Any
    error: float


def measure(point: Point, params: Params, ctx: api.Context, file: Path, subject: Subject) -> Run:
    """The script once at one point. UserError when it does not do what it was asked or is wrong."""
    account = execute(point, params, ctx, file, subject.pictures)
    session = trusted(account, point, params, ctx)
    error = images.agree(*compared(session, subject.model), tolerance(ctx), params.script)
    named = witness.predictions(account.stdout, len(subject.fed), params.script)
    if error < TOLERANCE and (named != subject.right).any():
        raise api.UserError("it names other digits than torch, though its logits are right", where=params.script)
    return Run(session, account.peak_rss_mb, named, error)


def save(held_out: digits.Digits, network: digits.Network, file: Path) -> Any:
    """The held-out digits in the network's shape, also as the file that the script reads."""
    import numpy

    fed = digits.fit(held_out.images, network)
    numpy.save(file, fed)
    return fed


def execute(point: Point, params: Params, ctx: api.Context, file: Path, pictures: Path) -> witness.Account:
    """The script at one point. UserError with its last words when it fails."""
    provider = "cuda" if ctx.backend == CUDA else "cpu"
    arguments = [
        "--onnx", str(file), "--images", str(pictures), "--opt-level", point.opt_level,
        "--batch", str(point.batch or params.batch), "--provider", provider,
        "--threads", str(params.threads), "--seconds", str(params.seconds),
    ]  # fmt: skip
    account = witness.run(ctx.day / params.script, arguments, ctx.scratch / "witness.json")
    if account.returncode:
        last = (account.stderr.strip().splitlines() or ["no message"])[-1]
        raise api.UserError(f"it ended with {account.returncode}: {last}", where=params.script)
    return account


def trusted(account: witness.Account, point: Point, params: Params, ctx: api.Context) -> witness.Session:
    """The session that did the work; UserError when it was not made or run as asked."""
    if not account.sessions:
        raise api.UserError("it opened no session of ONNX Runtime", where=params.script)
    session = max(account.sessions, key=lambda one: len(one.runs))
    if session.level != point.opt_level:
        raise api.UserError(f"its session ran at {session.level}, not at {point.opt_level}", where=params.script)
    if ctx.backend == CUDA and session.providers[0] != "CUDAExecutionProvider":  # ONNX Runtime falls back by itself
        raise api.UserError(f"its session fell back to {session.providers[0]}", where=params.script)
    size = point.batch or params.batch
    whole = sum(batch == size for batch, _ in session.runs)
    if whole < WARM_UP + timing.MINIMUM:
        raise api.UserError(f"it ran {whole} batches of {size}: too few to time", where=params.script)
    return session


def compared(session: witness.Session, model: Any) -> tuple[Any, Any]:
    """The logits of the session's first images, and torch's."""
    import numpy

    fed = numpy.array(session.fed, numpy.float32)
    return numpy.array(session.gave, numpy.float32), digits.torch_logits(model)(fed)


def figures(runs: Sequence[Run], batch: int) -> tuple[dict[str, float], dict[str, api.Spread]]:
    """Latency and throughput of whole batches, the first of each process left out; medians of the rest."""
    samples = [took for run in runs for took in [took for size, took in run.session.runs if size == batch][WARM_UP:]]
    latency = timing.spread(samples)
    load = timing.spread([run.session.load_ms for run in runs])
    metrics = {
        "latency_p50_ms": latency.p50,
        "latency_p95_ms": latency.p95,
        "throughput_samples_s": batch * len(samples) * 1000 / sum(samples),
        "session_load_ms": load.p50,
        "peak_rss_mb": timing.spread([run.peak_rss_mb for run in runs]).p50,
        "max_abs_error": max(run.error for run in runs),
    }
    return metrics, {"latency_p50_ms": latency, "session_load_ms": load}


def tolerance(ctx: api.Context) -> float:
    return CUDA_TOLERANCE if ctx.backend == CUDA else TOLERANCE
