"""Kind `llm_moe`: a mixture of experts against a dense model that computes the same number of weights for each token.

Alone a sequence needs the weights of its own experts; a batch needs those of all its sequences' experts, so the mixture
reads more memory in each step than the dense model and profits less from batching. vLLM serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.llm import serving, sweep
from tasks.models import lm, moe
from tasks.services.llm import bench, figures
from tasks.services.llm.endpoint import Endpoint

MIB = 2**20
BYTES = 2  # bfloat16


class Params(serving.Served):
    shape: moe.Shape = moe.Shape()
    right_share: float = Field(default=0.85, gt=0, le=1)  # rounding decides which expert comes second now and then
    prompt_tokens: int = Field(default=64, ge=1)
    output_tokens: int = Field(default=48, ge=2)
    rounds: int = Field(default=3, ge=1)  # a load of c at a time sends c × rounds requests
    minimum: int = Field(default=6, ge=1)


class Point(api.Params):
    model: Literal["dense", "moe"] = "dense"
    concurrency: int = Field(default=1, ge=1)


METRICS = {
    "total_params_millions": "weights of the model, in millions",
    "active_params_millions": "of them, those that compute for one token, in millions",
    "weights_mib": "size of the weights in bfloat16, in MiB",
    "mlp_read_mib": "MLP weights that a decoding step of so many sequences must read, in MiB: of all experts that they "
    "need together, as counted at the router",
    **{name: bench.METRICS[name] for name in ("ttft_p50_ms", "tpot_p50_ms", "tpot_p95_ms", "output_tokens_per_s")},
    "server_itl_p50_ms": serving.SERVER["server_itl_p50_ms"],
    "server_prefill_ms": serving.SERVER["server_prefill_ms"],
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [serving.both()]


def run(params: Params, ctx: api.Context) -> None:
    tokenizer = lm.home(ctx.settings, ctx.seed, ctx.say)
    models: Mapping[str, list[Point]] = {
        name: [point for point in ctx.points if point.model == name] for name in ("dense", "moe")
    }
    for name, points in models.items():
        if not points:
            continue
        variant: moe.Variant = points[0].model
        made = moe.build(params.shape, variant, tokenizer, ctx.scratch / name, ctx.seed)
        ctx.say(f"{name}: {made.total / 1e6:.1f} M weights, {made.active / 1e6:.1f} M of them for each token")

        start = partial(serving.checked, params, made.folder, ctx)
        sweep.each(ctx, points, start, partial(record, ctx, params, made))


def read_mib(params: Params, point: Point, made: moe.Made, seed: int) -> float:
    """MLP weights of one step, all layers."""
    shape = params.shape
    if point.model == "dense":
        touched = float(shape.chosen)  # the dense MLP is as wide as the chosen experts together
    else:
        touched = moe.experts_touched(made.folder, point.concurrency, shape.chosen, seed)
    return touched * shape.mlp_parameters * shape.layers * BYTES / MIB


def record(ctx: api.Context, params: Params, made: moe.Made, server: Endpoint, point: Point) -> None:
    before = figures.metrics(server)
    result = serving.load(
        server, made.folder, ctx, requests=max(params.minimum, point.concurrency * params.rounds),
        concurrency=point.concurrency, prompt_tokens=params.prompt_tokens, output_tokens=params.output_tokens,
        seed=ctx.seed + point.concurrency,
    )  # fmt: skip
    found = {**result.metrics(), **serving.own_figures(figures.metrics(server).since(before))}
    metrics = {
        "total_params_millions": made.total / 1e6, "active_params_millions": made.active / 1e6,
        "weights_mib": made.total * BYTES / MIB, "mlp_read_mib": read_mib(params, point, made, ctx.seed),
        **{name: found[name] for name in METRICS if name in found},
    }  # fmt: skip
    ctx.record(point, metrics, {"tpot_p50_ms": result.tpot, "ttft_p50_ms": result.ttft})
