"""One engine on the GPU it was built on and on a GPU of another model, with and without hardware compatibility."""

from __future__ import annotations

import math

from tasks import api
from tasks.engines import cuda, subject, tensorrt
from tasks.engines.points import Params
from tasks.models import reviews

TOLERANCE = 5e-2
REFUSED, FAILED_LATER = 1, 2


def run(params: Params, ctx: api.Context) -> None:
    given = subject.prepare(params, ctx)
    devices = {"build_gpu": 0, "other_gpu": cuda.other_model(0)}
    plans: dict[str, bytes] = {}
    texts = reviews.texts(params.batch, params.seq_len, seed=ctx.seed, test=True)
    for point in ctx.points:
        wish = point.hardware_compat
        if wish not in plans:
            with cuda.on(devices["build_gpu"]):
                plans[wish] = tensorrt.serialize(given.plan(params, ctx, hardware_compat=wish == "on"))
        metrics = {"load_ok_bool": 0.0, "latency_p50_ms": math.nan}  # nothing to time unless it loads
        spread, note = {}, ""
        with cuda.on(devices[point.gpu]):
            try:
                engine = tensorrt.TensorRtEngine(tensorrt.deserialize(plans[wish]), len(plans[wish]), "fp32")
                subject.agree(engine.logits, given.fp32, texts, TOLERANCE)
                timed, latency = subject.clock(engine, params.batch, params, ctx.seed)
                metrics |= {"load_ok_bool": 1.0, "error_class": 0.0, **timed}
                spread = {"latency_p50_ms": latency}
            except api.UserError as error:  # a refusal is what this experiment is about
                metrics["error_class"] = REFUSED if isinstance(error, tensorrt.RefusedError) else FAILED_LATER
                note = str(error)
            ctx.record(point, metrics, spread, note or cuda.name())
