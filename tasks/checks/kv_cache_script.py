"""A program that decodes with key-value caches: the same tokens as without, an exact window, bytes by the formula."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.llm import local, trial
from tasks.llm.trial import Broken
from tasks.models import random_lm
from tasks.services import program

NAMES = ("generate", "score", "full_cache", "sliding_cache", "cache_bytes", "formula_bytes")
SHAPES = ({"heads": 4, "kv_heads": 4}, {"heads": 4, "kv_heads": 2, "layers": 3})
PROMPT, NEW = 40, 24
WINDOWS, CHUNKS = (5, 16, 64), (1, 7, 40)
LIMIT = 1e-3


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="transformers", environment="training", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    import torch

    try:
        made = program.load(file, NAMES)
        torch.set_num_threads(1)
        for number, shape in enumerate(SHAPES):
            model = random_lm.make(seed=work.seed + number, **shape)
            ids = local.drawn(model.config.vocab_size, (2, PROMPT), work.seed + number)
            trial.attempt("the tokens", partial(tokens_equal, made, model, ids))
            trial.attempt("the bytes", partial(bytes_right, made, model, ids))
            trial.attempt("the window", partial(window_right, made, model, ids))
    except (api.UserError, Broken) as error:
        return Verdict(False, str(error))
    said = (
        f"tokens equal with and without the cache, windows {WINDOWS} equal masked attention, bytes as the formula says"
    )
    return Verdict(True, said, {"shapes": len(SHAPES), "windows": WINDOWS, "chunks": CHUNKS})


def tokens_equal(made: Any, model: Any, ids: Any) -> None:
    """The same greedy tokens, and the cache is really used: one token is fed per step."""
    right = trial.greedy(model, ids, NEW)
    for cached in (False, True):
        what = "generate with the cache" if cached else "generate without a cache"
        with trial.fed(model) as lengths:
            cache = made.full_cache(model) if cached else None
            answer = trial.attempt(what, partial(made.generate, model, ids, NEW, cache))
        for row, expected in zip(answer.tokens.tolist(), right.tolist(), strict=True):
            trial.same_tokens(what, row, expected)
        expected_fed = [PROMPT] + [1] * (NEW - 1) if cached else [PROMPT + step for step in range(NEW)]
        if lengths != expected_fed:
            raise Broken(f"{what}: the passes read {lengths[:4]}… tokens, expected {expected_fed[:4]}…")


def bytes_right(made: Any, model: Any, ids: Any) -> None:
    cache = made.full_cache(model)
    trial.attempt("score", lambda: made.score(model, ids, cache, PROMPT))
    right = local.token_bytes(model) * PROMPT * len(ids)
    found = {
        "cache_bytes of the full cache": made.cache_bytes(cache),
        "formula_bytes": made.formula_bytes(model.config, PROMPT, 4, len(ids)),
        "the tensors of the full cache": local.stored_bytes(cache),
    }
    for what, count in found.items():
        if count != right:
            raise Broken(f"{what}: {count} bytes; 2 * layers * kv_heads * head_dim * tokens * 4 * batch is {right}")


def window_right(made: Any, model: Any, ids: Any) -> None:
    """The sliding cache gives the logits of masked full attention, fed in any pieces, and holds its window only."""
    for window in WINDOWS:
        right = trial.logits(model, ids, window)
        limit = LIMIT * float(right.abs().max())
        for chunk in CHUNKS:
            what = f"a window of {window}, fed {chunk} at a time"
            cache = made.sliding_cache(model, window)
            trial.alike(what, trial.attempt(what, partial(made.score, model, ids, cache, chunk)), right, limit)
        held = local.stored_bytes(cache)
        most = local.token_bytes(model) * window * len(ids)
        if held > most + 4096:
            raise Broken(f"a window of {window} holds {held} bytes, its tokens take {most}")
