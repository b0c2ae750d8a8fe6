"""The small model that guesses ahead, where the chosen model has one; where it has none, its points are blocked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import api
from tasks.models import lm

NONE = "the model {} has no draft model"
REMEDY = "choose one that has: tiny, qwen2.5-1.5b, qwen3-8b or llama-3.1-8b"


def home(ctx: api.Context) -> Path:
    """The draft's folder."""
    return lm.home(ctx.settings, ctx.seed, ctx.say, part="draft")


def measurable(ctx: api.Context, method: str) -> list[Any]:
    """The points that can be measured: those of `method`, which needs a draft, only where there is one."""
    model = ctx.settings.get("model", {})
    if model.get("draft"):
        return list(ctx.points)
    for point in (point for point in ctx.points if point.method == method):
        ctx.blocked(point, NONE.format(model.get("id", "?")), REMEDY)
    return [point for point in ctx.points if point.method != method]
