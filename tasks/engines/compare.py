"""One model in two runtimes, or in two precisions: speed against what it does to the answers."""

from __future__ import annotations

import time
from typing import Any

from tasks import api
from tasks.engines import subject
from tasks.engines.contract import Engine
from tasks.engines.points import Params, Point
from tasks.models import bert, reviews

TOLERANCE = 5e-2
SMALLEST_COSINE = 0.95  # below that an engine is broken, not imprecise


def runtimes(params: Params, ctx: api.Context) -> None:
    """ONNX Runtime against the engine; a TensorRT engine is kept in the day's folder."""
    given = subject.prepare(params, ctx)
    for point in ctx.points:
        name = "ONNX Runtime" if point.runtime == "ort" else ctx.backend
        began = time.perf_counter()
        engine = subject.BACKENDS[name].build(given.plan(params, ctx))
        built_s = time.perf_counter() - began
        texts = reviews.texts(params.batch, params.seq_len, seed=ctx.seed, test=True)
        error = subject.agree(engine.logits, given.torch, texts, TOLERANCE)
        metrics, latency = subject.clock(engine, params.batch, params, ctx.seed)
        if name == "TensorRT":
            keep(engine, params, ctx)
        metrics |= {"build_time_s": built_s, "max_abs_error": error}
        ctx.record(point, metrics, {"latency_p50_ms": latency}, f"{name}, ran in {engine.ran}")


def keep(engine: Any, params: Params, ctx: api.Context) -> None:
    """The engine as a file for deployment: the deliverable."""
    (ctx.day / params.engine).write_bytes(bytes(engine.engine.serialize()))
    ctx.say(f"{params.engine} written")


def precisions(params: Params, ctx: api.Context) -> None:
    given = subject.prepare(params, ctx)
    reference = given.fp32(given.held_out.ids, given.held_out.mask)
    score = bert.accuracy(given.fp32, given.held_out)
    for point in ctx.points:
        engine = build_in(point, given, params, ctx)
        found = answers(engine, given.held_out)
        similar = cosine(found, reference)
        if similar < SMALLEST_COSINE:
            raise api.UserError(f"the {point.precision} engine's logits have cosine {similar:.3f} with fp32")
        metrics, latency = subject.clock(engine, params.batch, params, ctx.seed)
        metrics |= {
            "output_cosine": similar,
            "engine_size_mb": engine.size_bytes / 1e6,
            "accuracy": float((found.argmax(-1) == given.held_out.labels).mean()),
            "accuracy_fp32": score,
        }
        ctx.record(point, metrics, {"latency_p50_ms": latency}, f"{ctx.backend}, ran in {engine.ran}")


def build_in(point: Point, given: subject.Subject, params: Params, ctx: api.Context) -> Engine:
    seen = subject.calibration(params, ctx) if point.precision == "int8" else None
    plan = given.plan(params, ctx, precision=point.precision, calibration=seen)
    return subject.BACKENDS[ctx.backend].build(plan)


def answers(engine: Engine, texts: reviews.Texts, batch: int = 25) -> Any:
    """Logits of all texts, in batches that the engine's profile allows."""
    import numpy

    starts = range(0, len(texts.labels), batch)
    return numpy.concatenate([engine.logits(texts.ids[at : at + batch], texts.mask[at : at + batch]) for at in starts])


def cosine(ours: Any, reference: Any) -> float:
    """Mean cosine similarity of corresponding rows."""
    import numpy

    lengths = numpy.linalg.norm(ours, axis=1) * numpy.linalg.norm(reference, axis=1)
    return float(((ours * reference).sum(axis=1) / lengths).mean())
