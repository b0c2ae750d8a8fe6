"""A fresh server of the learner's under one offered rate."""

from __future__ import annotations

from pydantic import Field

from tasks import api
from tasks.dispatching import server, shared
from tasks.services import burst


class Params(shared.Served):
    queue_limit: int = Field(default=256, ge=1)


def offer(params: Params, qps: float, seed: int, ctx: api.Context) -> tuple[burst.Answers, list[int]]:
    """A fresh server under one rate after a second of warm-up: the answers, all right, and the model's batch sizes."""
    shared.more_files(params.connections + 256)
    queue = server.Queue(params.queue_limit, params.batch_limit, params.max_delay_ms, params.layers)
    ctx.say(f"offering {qps:g} requests/s for {params.seconds:g} s")
    with server.serve(ctx.day / params.file, queue, ctx.scratch, ctx.out / "server.log") as one:
        out, target = ctx.scratch / "answers.npy", one.target()
        burst.offer(target, 1, min(qps, 500), out, seed + 1000, connections=64, timeout_s=params.timeout_s)
        warm = len(one.batch_sizes())
        answers = burst.offer(
            target, params.seconds, qps, out, seed, connections=params.connections, timeout_s=params.timeout_s
        )
        batches = one.batch_sizes()[warm:]
    if max(batches, default=0) > params.batch_limit:
        raise api.UserError(f"a batch of {max(batches)} exceeds the limit {params.batch_limit}", where=params.file)
    return shared.right(answers, params.layers, params.file), batches
