"""One engine with a dynamic batch, built for a range of batches and measured batch by batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tasks import api
from tasks.engines import pictures
from tasks.engines.contract import Range
from tasks.models import digits


class Params(api.Params):
    network: digits.Network = "cnn224"
    budget_s: float = 1.0


class Point(api.Params):
    profile: str = "min:1 opt:8 max:64"
    batch: int = 8


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one batch",
    "latency_p95_ms": "95th percentile of the same batches",
    "throughput_samples_s": "images per second of one closed loop",
    "max_rel_error": "largest difference of a logit from torch, as a share of the largest logit",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [pictures.TENSORRT, pictures.OPENVINO]


def run(params: Params, ctx: api.Context) -> None:
    given = pictures.prepare(params.network, ctx)
    for profile in dict.fromkeys(point.profile for point in ctx.points):
        engine = pictures.BACKENDS[ctx.backend].build(given.plan(ctx.scratch, batch=parse(profile)))
        ctx.say(f"{ctx.backend} engine built once for {profile}, computes in {engine.ran}")
        for point in (point for point in ctx.points if point.profile == profile):
            error = pictures.agree(engine, given, point.batch)
            metrics, latency = pictures.clock(engine, given, point.batch, params.budget_s)
            metrics["max_rel_error"] = error
            ctx.record(point, metrics, {"latency_p50_ms": latency}, f"one engine for {profile}, ran in {engine.ran}")


def parse(profile: str) -> Range:
    """`min:1 opt:8 max:64` as numbers. UserError when it is not of that form or not in order."""
    found = re.fullmatch(r"min:(\d+) opt:(\d+) max:(\d+)", profile)
    low, best, high = map(int, found.groups()) if found else (0, 0, 0)
    if not 0 < low <= best <= high:
        raise api.UserError(f"the profile {profile!r} is not 'min:A opt:B max:C' with A <= B <= C")
    return low, best, high
