"""Contiguous slabs against pages for the KV cache: how much of the memory holds tokens, and that paging is exact.

The accounting serves a long queue of requests of drawn lengths in a pool of token slots. That an allocator's scattered
slots are as good as a contiguous cache is shown on a real model: requests that share one pool of keys and values, taken
by turns, give the tokens that each gives alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tasks import api
from tasks.llm import local, paging


class Params(api.Params):
    pool_tokens: int = Field(16384, ge=256)
    longest: int = Field(2048, ge=64)  # the model's limit, which a slab must foresee
    requests: int = Field(400, ge=8)
    block: int = Field(16, ge=1)
    checked: int = Field(4, ge=2)  # requests that share a pool on the real model
    new_tokens: int = Field(16, ge=2)


class Point(api.Params):
    allocation: paging.Policy = "paged"


METRICS = {
    "used_pct": "slots of the pool that hold a token, while requests wait for memory",
    "waste_pct": "the rest: reserved but empty, or free and of no use",
    "internal_waste_pct": "slots that a running request holds and has no token in",
    "external_waste_pct": "free slots that are of no use to the request that waits",
    "concurrent_requests": "requests running at once, while others wait (mean)",
    "steps": "decoding steps until every request is served",
    "preemptions": "requests sent back because the pool was full",
    "tokens_equal": "1 when requests sharing the pool on the real model give the tokens that each gives alone",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [local.needs()]


def run(params: Params, ctx: api.Context) -> None:
    model, tokenizer = local.load(ctx)
    for point in ctx.points:
        todo = paging.requests(params.requests, params.longest, ctx.seed)
        told = paging.serve(point.allocation, todo, params.pool_tokens, params.longest, params.block)
        equal = shared_pool(model, tokenizer, params, point, ctx.seed)
        ctx.record(point, {**shares(told), "tokens_equal": float(equal)})


def shares(told: paging.Account) -> dict[str, float]:
    offered, steps = max(told.offered, 1), max(told.steps_waiting, 1)
    used, taken = 100 * told.stored / offered, 100 * told.taken / offered
    return {
        "used_pct": used, "waste_pct": 100 - used, "internal_waste_pct": taken - used,
        "external_waste_pct": 100 - taken, "concurrent_requests": told.running / steps, "steps": float(told.steps),
        "preemptions": float(told.preemptions),
    }  # fmt: skip


def shared_pool(model: Any, tokenizer: Any, params: Params, point: Point, seed: int) -> bool:
    """Whether requests by turns in one pool answer as each does alone."""
    import torch

    longest = 64
    text = local.text_ids(tokenizer, params.checked * 48, seed)[0].tolist()
    prompts = [text[index * 48 : index * 48 + 24 + 5 * index] for index in range(params.checked)]
    jobs = [paging.Request(len(prompt), params.new_tokens) for prompt in prompts]
    room = paging.allocator(point.allocation, params.checked * longest * 2, longest, params.block)
    pool = empty_pool(model, params.checked * longest * 2)
    answers: list[list[int]] = [[] for _ in jobs]
    for job in jobs:
        if not room.admit(job):
            raise api.UserError("the pool of the trial is too small", where=point.allocation)
    with torch.inference_mode():
        for turn in range(params.new_tokens):
            for job, prompt, answer in zip(jobs, prompts, answers, strict=True):
                fed = prompt if not turn else answer[-1:]
                while job.tokens + len(fed) > len(job.slots):
                    room.grow(job)
                answer.append(through_pool(model, pool, job, fed))
        alone = [by_itself(model, prompt, params.new_tokens) for prompt in prompts]
    return answers == alone


def empty_pool(model: Any, slots: int) -> Any:
    """Keys and values of every slot: [layers, 2, kv_heads, slots, head_dim]."""
    config = model.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return model.get_input_embeddings().weight.new_zeros(
        config.num_hidden_layers, 2, config.num_key_value_heads, slots, width
    )


def through_pool(model: Any, pool: Any, job: paging.Request, fed: Sequence[int]) -> int:
    """The next token: the past is gathered from the request's slots, what is new is scattered to them."""
    import torch
    from transformers import DynamicCache

    cache, past = DynamicCache(), torch.tensor(job.slots[: job.tokens], device=pool.device)
    if job.tokens:
        for layer in range(len(pool)):
            cache.update(pool[layer, 0][None, :, past], pool[layer, 1][None, :, past], layer)
    ids = torch.tensor([list(fed)], device=pool.device)
    logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    here = torch.tensor(job.slots[job.tokens : job.tokens + len(fed)], device=pool.device)
    for index, layer in enumerate(cache.layers):
        pool[index, 0][:, here] = layer.keys[0, :, -len(fed) :]
        pool[index, 1][:, here] = layer.values[0, :, -len(fed) :]
    job.tokens += len(fed)
    return int(logits[0, -1].argmax())


def by_itself(model: Any, prompt: Sequence[int], new_tokens: int) -> list[int]:
    """Greedy tokens with a contiguous cache of the request's own."""
    import torch
    from transformers import DynamicCache

    cache, fed, tokens = DynamicCache(), list(prompt), list[int]()
    for _ in range(new_tokens):
        ids = torch.tensor([fed], device=model.device)
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        tokens.append(int(logits[0, -1].argmax()))
        fed = tokens[-1:]
    return tokens
