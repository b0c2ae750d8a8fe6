"""Whether the chosen model fits this machine: said before anything is fetched or loaded, with the largest that does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.api import Context, UserError
from tasks.models import fit, hub, lm
from tasks.models.shape import Shape

MODELS = Path(__file__).resolve().parents[2] / "conf" / "model"
SMALL = "tiny"


class NoRoomError(UserError):
    """The model, or what is asked of it, does not fit."""


def home(
    ctx: Context, tokens: int, *, gpu: bool, cached: int = 0, gpus: int = 1, precision: fit.Precision = "bf16"
) -> Path:
    """The chosen model's folder, trained or fetched once it is known to fit (see `require`), on `gpus` GPUs together.

    Ranks on a CPU share the host's memory.
    """
    have = available(gpu) * (gpus if gpu else 1)
    require(ctx.settings, tokens, gpu=gpu, have_bytes=have, cached=cached, precision=precision)
    return lm.home(ctx.settings, ctx.seed, ctx.say)


def require(
    settings: Mapping[str, Any], tokens: int, *, gpu: bool, have_bytes: float, cached: int = 0,
    precision: fit.Precision = "bf16",
) -> None:  # fmt: skip
    """NoRoomError when the model has no `tokens` positions, or when it and its cache do not fit into `have_bytes`.

    The cache holds one context of `tokens` tokens, or `cached` tokens of several. A model that is made on the spot
    says no shape and always fits.
    """
    shape = told(settings)
    if shape is None:
        return
    name, wanted = settings["model"].get("id"), max(tokens, cached)
    if tokens > shape.max_positions:
        raise NoRoomError(
            f"{name} has {shape.max_positions:,} positions, and a context of {tokens:,} tokens is asked for",
            where="conf/model", remedy="shorten the context, or take a model with more positions",
        )  # fmt: skip
    able = fit.cached_tokens(shape, have_bytes, precision, gpu=gpu)
    if able >= wanted:
        return
    takes = fit.memory(shape, precision, wanted, gpu=gpu).total / fit.USABLE
    raise NoRoomError(
        f"{name} in {precision} with {wanted:,} tokens takes {takes / fit.GIB:.1f} GiB, "
        f"and there are {have_bytes / fit.GIB:.1f}",
        where="conf/model",
        remedy=f"here it has room for {able:,} tokens; {largest(have_bytes, wanted, precision, gpu)}",
    )


def told(settings: Mapping[str, Any]) -> Shape | None:
    """The shape of the chosen model: what its own folder's files say, or what conf/model says; None when neither."""
    given = settings.get("model", {}).get("lm") or {}
    if given.get("folder"):
        return lm.describe(hub.whole(Path(given["folder"]).expanduser()))
    return Shape.model_validate(dict(given["shape"])) if given.get("shape") else None


def largest(have: float, tokens: int, precision: fit.Precision, gpu: bool) -> str:
    """The largest of the known models that fits, as a remedy."""
    import yaml

    parsed = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(MODELS.glob("*.yaml")))
    found = fit.largest_that_fits(have, fit.shapes(parsed), tokens, precision, gpu=gpu)
    return f"the largest model that fits is model={found or SMALL}"


def available(gpu: bool) -> float:
    """Bytes of one GPU in all, or those of the host's memory that are free."""
    if gpu:
        import torch

        return float(torch.cuda.mem_get_info()[1])
    import psutil

    return float(psutil.virtual_memory().available)
