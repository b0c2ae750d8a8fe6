"""Kind `parallel_sequence`: the learner's sequence parallelism: equal, and the activations that a rank keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from tasks import api
from tasks.distributed import formula, ranks
from tasks.distributed.shape import Shape
from tasks.services import timing

MIB = 2**20
METRICS = {
    "max_abs_diff": "largest absolute difference from one device's output, over all ranks and two inputs",
    "activation_mib": "activations that one rank keeps for a backward pass",
    "activation_tp_mib": "the same with tensor parallelism alone, where every rank keeps all tokens",
    "activation_vs_tp_pct": "the first of these in percent of the second",
    "latency_ms": "median of a forward pass, of the slowest rank each time",
    "comm_bytes": "bytes that a ring sends from a rank for the collectives called in one pass",
    "wire_bytes": "bytes that a rank really sent over TCP in one pass, as the kernel counted",
    "formula_bytes": "what the rank must send over TCP by the formula, gloo's reduce-scatter by all-reduce included",
}


class Params(Shape): ...


class Point(api.Params):
    ways: int = Field(default=2, ge=2)
    seq_len: int = Field(default=512, ge=2)


def needs(params: Params) -> Sequence[api.Needs]:
    return ranks.needs(2, unmeasured=("wire_bytes",))


def run(params: Params, ctx: api.Context) -> None:
    for ways in sorted({point.ways for point in ctx.points}):
        points = [point for point in ctx.points if point.ways == ways]
        steps = []
        for point in points:
            params.divided(ways, point.seq_len)
            steps.append(params.step("sequence", ctx.seed, tokens=point.seq_len, kept=True))
            other = params.step("tensor", ctx.seed, tokens=point.seq_len, kept=True)
            steps.append(replace(other, repeats=1))  # only its activations are wanted
        ctx.say(f"{ways} ranks over {ctx.backend}, {len(points)} lengths")
        answers = ranks.measure(ctx.day / params.file, ways, ctx.backend, steps, ctx.scratch)
        for point in points:
            record(point, params, ctx, next(answers), next(answers))


def record(
    point: Point, params: Params, ctx: api.Context, seen: Sequence[ranks.Seen], tensor: Sequence[ranks.Seen]
) -> None:
    difference = ranks.equal(seen, params.file)
    latency = timing.spread(ranks.latencies(seen))
    sizes = (params.batch, point.seq_len, params.hidden, params.layers, point.ways)
    kept, kept_tp = (max(one.kept_bytes for one in answers) / MIB for answers in (seen, tensor))
    metrics = {
        "max_abs_diff": difference, "latency_ms": latency.p50, "comm_bytes": max(one.comm_bytes for one in seen),
        "activation_mib": kept, "activation_tp_mib": kept_tp, "activation_vs_tp_pct": 100 * kept / kept_tp,
        "formula_bytes": formula.sequence_parallel_bytes(*sizes, ctx.backend),
    }  # fmt: skip
    if ctx.backend == "gloo":
        metrics["wire_bytes"] = max(one.wire_bytes for one in seen)
    ctx.record(point, metrics, {"latency_ms": latency})
