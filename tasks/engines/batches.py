"""One engine with a dynamic batch axis under load at several batch sizes."""

from __future__ import annotations

from tasks import api
from tasks.engines import subject
from tasks.engines.points import Params
from tasks.models import reviews

TOLERANCE = 5e-2  # TensorRT multiplies in TF32 by default


def run(params: Params, ctx: api.Context) -> None:
    given = subject.prepare(params, ctx)
    engine = subject.BACKENDS[ctx.backend].build(given.plan(params, ctx))
    ctx.say(f"{ctx.backend} engine built once, batch and sequence dynamic, computes in {engine.ran}")
    for point in ctx.points:
        texts = reviews.texts(point.batch, params.seq_len, seed=ctx.seed, test=True)
        error = subject.agree(engine.logits, given.fp32, texts, TOLERANCE)
        metrics, latency = subject.clock(engine, point.batch, params, ctx.seed)
        ctx.record(point, {**metrics, "max_abs_error": error}, {"latency_p50_ms": latency}, f"ran in {engine.ran}")
