"""FlashAttention in code: three ways of one attention, two of them without a matrix of scores, a model on each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.llm import local, memory, trial
from tasks.llm.trial import Broken
from tasks.models import random_lm
from tasks.services import program

NAMES = ("naive", "tiled", "flash", "replace")
WAYS = ("naive", "tiled", "flash")
TOKENS = (1, 100, 256, 700)
LONG = 3000  # tokens whose scores would take 34 MiB
ROOM_MIB = 16.0


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="torch", environment="training", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    import torch

    try:
        made = program.load(file, NAMES)
        torch.set_num_threads(1)
        torch.manual_seed(work.seed)
        for way in WAYS:
            equal(way, getattr(made, way))
        peaks = {way: peak(way, getattr(made, way)) for way in WAYS[1:]}
        for way in WAYS:
            replaced(made, way, work.seed)
    except (api.UserError, Broken) as error:
        return Verdict(False, str(error))
    return Verdict(
        True, "all ways equal exact attention, tiled and flash without the scores, a model runs on each", peaks
    )


def exact(q: Any, k: Any, v: Any) -> Any:
    """Causal attention in double precision."""
    import torch

    q, k, v = (each.double() for each in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(k.shape[-2] - q.shape[-2] + 1)
    return (scores.masked_fill(later, float("-inf")).softmax(-1) @ v).float()


def equal(way: str, compute: Any) -> None:
    """Any length, also no multiple of a tile; scores so large that exp() overflows without a running maximum."""
    import torch

    with torch.inference_mode():
        for tokens in TOKENS:
            for size in (1.0, 8.0):
                q, k, v = (torch.randn(1, 2, tokens, 32) * (size if name != "v" else 1) for name in "qkv")
                what = f"{way} on {tokens} tokens" + (" with large scores" if size > 1 else "")
                trial.alike(what, trial.attempt(what, partial(compute, q, k, v)), exact(q, k, v), 1e-4 * size)


def peak(way: str, compute: Any) -> float:
    """MiB above the inputs for a long text."""
    import torch

    q, k, v = (torch.randn(1, 1, LONG, 32) for _ in range(3))
    with torch.inference_mode():
        compute(q[:, :, :300], k[:, :, :300], v[:, :, :300])  # libraries set up their own memory once
        _, mib = memory.peak_mib(partial(compute, q, k, v), q.device)
    if mib > ROOM_MIB:
        raise Broken(f"{way} takes {mib:.0f} MiB for {LONG} tokens: it holds the matrix of scores")
    return mib


def replaced(made: Any, way: str, seed: int) -> None:
    """The model's logits stay, and its attention really goes another way: fused for flash, never fused otherwise."""
    import torch

    model = random_lm.make(seed=seed, spread=0.1)
    ids = local.drawn(model.config.vocab_size, (2, 70), seed)
    right = trial.logits(model, ids)
    trial.attempt(f"replace with {way}", partial(made.replace, model, way))
    fused, calls = torch.nn.functional.scaled_dot_product_attention, []

    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return fused(*args, **kwargs)

    torch.nn.functional.scaled_dot_product_attention = noted
    try:
        logits = trial.attempt(f"a model on {way}", partial(trial.logits, model, ids))
    finally:
        torch.nn.functional.scaled_dot_product_attention = fused
    trial.alike(f"a model on {way}", logits, right, 1e-4)
    expected = model.config.num_hidden_layers if way == "flash" else 0
    if len(calls) != expected:
        raise Broken(f"a model on {way}: torch's fused attention was called {len(calls)} times, expected {expected}")
