"""What a checker needs to try a learner's program on a model: who was fed what, and answers of its own to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Broken(Exception):
    """What the program did wrong."""


@contextmanager
def fed(model: Any) -> Iterator[list[int]]:
    """The number of tokens (per sequence) of every pass of the model inside the block."""
    lengths: list[int] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda module, given, made: lengths.append(int(given[0].shape[-1]))
    )
    try:
        yield lengths
    finally:
        hook.remove()


def attempt(what: str, call: Callable[[], Any]) -> Any:
    """The call's result; a crash of the program is its mistake."""
    try:
        return call()
    except Broken:
        raise
    except Exception as error:
        raise Broken(f"{what}: {type(error).__name__}: {error}") from error


def greedy(model: Any, ids: Any, new_tokens: int, window: int | None = None) -> Any:
    """Greedy tokens [batch, new_tokens], everything recomputed for each of them."""
    import torch

    text = ids
    with torch.inference_mode():
        for _ in range(new_tokens):
            best = logits(model, text, window)[:, -1].argmax(-1, keepdim=True)
            text = torch.cat([text, best], dim=1)
    return text[:, ids.shape[1] :]


def logits(model: Any, ids: Any, window: int | None = None) -> Any:
    """Logits [batch, tokens, vocabulary] of one pass without a cache; `window`: the rest is masked away."""
    import torch

    mask = None
    if window is not None:
        places = torch.arange(ids.shape[1])
        behind = places[:, None] - places[None]
        mask = ((behind >= 0) & (behind < window))[None, None].expand(len(ids), 1, -1, -1)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask, use_cache=False).logits


def alike(what: str, made: Any, right: Any, limit: float) -> None:
    """Raise unless `made` has the shape of `right` and differs by at most `limit`."""
    shape = tuple(getattr(made, "shape", ()))
    if shape != tuple(right.shape):
        raise Broken(f"{what}: the shape is {shape}, expected {tuple(right.shape)}")
    apart = float((made - right).abs().max())
    if not apart <= limit:
        raise Broken(f"{what}: differs by {apart:.1e} (allowed {limit:.0e})")


def same_tokens(what: str, made: Any, right: Sequence[int]) -> None:
    if list(made) != list(right):
        raise Broken(f"{what}: the tokens are {list(made)[:8]}…, without it {list(right)[:8]}…")
