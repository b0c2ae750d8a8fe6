"""Multi-head, grouped-query and multi-query attention: what fewer key-value heads save, by models of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from pydantic import Field

from tasks import api
from tasks.llm import local
from tasks.models import device, random_lm
from tasks.services.timing import spread


class Params(api.Params):
    layers: int = Field(4, ge=1)
    hidden: int = Field(256, ge=8)
    heads: int = Field(8, ge=1)
    context: int = Field(2048, ge=8)
    batch: int = Field(4, ge=1)
    steps: int = Field(24, ge=2)


class Point(api.Params):
    kv_heads: int = Field(8, ge=1)  # as many as heads: MHA; one: MQA; between them: GQA


METRICS = {
    "cache_mib": "MiB of keys and values after the context",
    "formula_error_pct": "difference of the counted bytes from 2 * layers * kv_heads * head_dim * tokens * size",
    "tpot_ms": "a decoding step of the batch at that context, median",
    "tokens_per_s": "tokens decoded per second by the batch",
    "max_tokens_per_gib": "tokens of context whose keys and values fit in one GiB",
    "parameters_m": "million parameters of the model",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="transformers", environment="training", memory_gb=3)]


def run(params: Params, ctx: api.Context) -> None:
    for point in ctx.points:
        if params.heads % point.kv_heads:
            raise api.UserError(f"{params.heads} heads cannot share {point.kv_heads} key-value heads evenly")
        with device.spared(point, ctx):
            model = local.settled(random_lm.make(
                seed=ctx.seed, layers=params.layers, hidden=params.hidden, heads=params.heads, kv_heads=point.kv_heads,
                intermediate=2 * params.hidden, vocab=512,
            ))  # fmt: skip
            ctx.record(point, *measure(model, params, ctx.seed))


def measure(model: Any, params: Params, seed: int) -> tuple[dict[str, float], dict[str, api.Spread]]:
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    ids = local.drawn(512, (params.batch, params.context), seed).to(model.device)
    with torch.inference_mode():
        for part in ids.split(256, dim=1):
            model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
        counted = local.stored_bytes(cache)
        fresh = local.drawn(512, (params.steps + 3, params.batch, 1), seed + 1).to(model.device)
        one = partial(model, past_key_values=cache, use_cache=True)
        times = [local.milliseconds(partial(one, input_ids=ids), model.device) for ids in fresh]
    formula = local.token_bytes(model) * params.batch * params.context
    step = spread(times[3:])  # the first ones warm up
    found = {
        "cache_mib": counted / local.MIB, "formula_error_pct": 100 * abs(counted - formula) / formula,
        "tpot_ms": step.p50, "tokens_per_s": 1000 * params.batch / step.p50,
        "max_tokens_per_gib": 2**30 / (counted / params.batch / params.context),
        "parameters_m": sum(weight.numel() for weight in model.parameters()) / 1e6,
    }  # fmt: skip
    return found, {"tpot_ms": step}
