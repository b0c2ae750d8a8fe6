"""How a KV cache grows: its bytes against the formula, and what the process or the GPU really takes for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from tasks import api
from tasks.llm import growth, local, memory
from tasks.models import device
from tasks.services import program

NAMES = ("full_cache", "score", "cache_bytes")


class Params(api.Params):
    program: str = "kv_cache_test.py"
    batch: int = Field(4, ge=1)
    chunk: int = Field(256, ge=1)  # the text is fed in pieces: what a long pass computes is not the cache's memory


class Point(api.Params):
    seq_len: int = Field(128, ge=1)


METRICS = {
    "cache_mib": "MiB of the cache's keys and values, counted by their storages",
    "rss_mib": "MiB by which the process's resident memory (on a GPU: the allocated memory) grew and stayed",
    "formula_error_pct": "difference between the counted bytes and 2 * layers * kv_heads * head_dim * tokens * size",
    "program_error_pct": "difference between the counted bytes and what the program's cache_bytes says",
    "bytes_per_token": "counted bytes per token of one sequence",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return local.on_device()


def run(params: Params, ctx: api.Context) -> None:
    made = program.load(ctx.day / params.program, NAMES)
    model, _ = local.load(ctx)
    fill(made, model, params, 2 * params.chunk, ctx.seed)  # warm: libraries set their workspaces up once
    for point in ctx.points:
        with device.spared(point, ctx):
            ctx.record(point, measure(made, model, params, point.seq_len, ctx.seed))
    lines = {"cache_mib": "cache", "rss_mib": "memory that the process took"}
    growth.draw(ctx, "seq_len", lines, f"tokens of each of {params.batch} sequences", "memory_curve.png")


def fill(made: Any, model: Any, params: Params, tokens: int, seed: int) -> Any:
    """A full cache of `batch` sequences of `tokens` random tokens."""
    ids = local.drawn(model.config.vocab_size, (params.batch, tokens), seed + tokens).to(model.device)
    cache = made.full_cache(model)
    for part in ids.split(params.chunk, dim=1):
        made.score(model, part, cache, params.chunk)
    return cache


def measure(made: Any, model: Any, params: Params, tokens: int, seed: int) -> dict[str, float]:
    cache, grown_mib = memory.kept_mib(lambda: fill(made, model, params, tokens, seed), model.device)
    counted, told = local.stored_bytes(cache), made.cache_bytes(cache)
    formula = local.token_bytes(model) * tokens * params.batch
    return {
        "cache_mib": counted / local.MIB, "rss_mib": grown_mib,
        "formula_error_pct": 100 * abs(counted - formula) / formula,
        "program_error_pct": 100 * abs(counted - told) / counted,
        "bytes_per_token": counted / tokens / params.batch,
    }  # fmt: skip
