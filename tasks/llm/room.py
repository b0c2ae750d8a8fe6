"""Whether the chosen model fits this machine: said before anything is fetched or loaded, with the largest that does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.models import fit
from tasks.models.shape import Shape

MODELS = Path(__file__).resolve().parents[2] / "conf" / "model"
SMALL = "tiny"


def require(settings: Mapping[str, Any], tokens: int, *, gpu: bool, have_bytes: float | None = None) -> None:
    """UserError when the model's weights and a context of `tokens` tokens do not fit in bfloat16.

    A model that is made on the spot says no shape and always fits. `have_bytes` is what there is (measured when None).
    """
    model = settings.get("model", {})
    told = (model.get("lm") or {}).get("shape")
    if not told:
        return
    shape, have = Shape.model_validate(dict(told)), available(gpu) if have_bytes is None else have_bytes
    longest = fit.longest_context(shape, have, gpu=gpu)
    if longest >= tokens:
        return
    takes = fit.memory(shape, tokens=tokens, gpu=gpu).total / fit.USABLE
    raise UserError(
        f"{model.get('id')} with {tokens:,} tokens takes {takes / fit.GIB:.1f} GiB, and there are {have / fit.GIB:.1f}",
        where="conf/model",
        remedy=f"its longest context here is {longest:,} tokens; {largest(have, tokens, gpu)}",
    )


def largest(have: float, tokens: int, gpu: bool) -> str:
    """The largest of the known models that fits, as a remedy."""
    import yaml

    parsed = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(MODELS.glob("*.yaml")))
    found = fit.largest_that_fits(have, fit.shapes(parsed), tokens, gpu=gpu)
    return f"the largest model that fits is model={found.model if found else SMALL}"


def available(gpu: bool) -> float:
    """Bytes of the GPU, or those of the host's memory that are free."""
    if gpu:
        import torch

        return float(torch.cuda.mem_get_info()[1])
    import psutil

    return float(psutil.virtual_memory().available)
