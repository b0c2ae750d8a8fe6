"""Kind `parallel_demo`: the learner's tensor parallelism on real ranks: equal to one device, and at what traffic."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks import api
from tasks.distributed import formula, ranks
from tasks.distributed.shape import Shape
from tasks.services import timing

METRICS = {
    "max_abs_diff": "largest absolute difference from one device's output, over all ranks and two inputs",
    "latency_ms": "median of a forward pass, of the slowest rank each time",
    "comm_bytes": "bytes that a ring sends from a rank for the collectives called in one pass",
    "formula_bytes": "the same by the formula: 2 all-reduces a block, each 2(p-1)/p of the activation",
    "wire_bytes": "bytes that a rank really sent over TCP in one pass, as the kernel counted",
    "weight_share_pct": "weights that one rank holds, of the whole model",
}


class Params(Shape): ...


class Point(api.Params):
    ways: int = Field(default=2, ge=2)


def needs(params: Params) -> Sequence[api.Needs]:
    return ranks.needs(2, unmeasured=("wire_bytes",))


def run(params: Params, ctx: api.Context) -> None:
    for point in ctx.points:
        params.divided(point.ways)
        step, alone = params.step("tensor", ctx.seed), params.step("single", ctx.seed)
        ctx.say(f"{point.ways} ranks over {ctx.backend}")
        (seen,) = ranks.measure(ctx.day / params.file, point.ways, ctx.backend, [step], ctx.scratch)
        difference = ranks.equal(seen, params.file)
        latency = timing.spread(ranks.latencies(seen))
        metrics = {
            "max_abs_diff": difference, "latency_ms": latency.p50, "comm_bytes": max(one.comm_bytes for one in seen),
            "formula_bytes": formula.tensor_parallel_bytes(
                params.batch, params.tokens, params.hidden, params.layers, point.ways
            ),
            "weight_share_pct": 100 * max(one.weight_bytes for one in seen) / whole_bytes(params, alone.seed),
        }  # fmt: skip
        if ctx.backend == "gloo":
            metrics["wire_bytes"] = max(one.wire_bytes for one in seen)
        ctx.record(point, metrics, {"latency_ms": latency})


def whole_bytes(params: Params, seed: int) -> int:
    from tasks.distributed import block

    return sum(tensor.nbytes for one in block.weights(params.hidden, params.layers, seed) for tensor in one.values())
