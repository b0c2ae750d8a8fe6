"""Where models compute, and a GPU's memory between two of them: given back; too little of it blocks one point."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from tasks import api


def name() -> str:
    """`cuda` or `cpu`, as torch calls it."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def release() -> None:
    """Give what deleted models held back to the GPU, so that the next one, or a server, finds it free."""
    import torch

    gc.collect()  # trainers and hooks refer to their models in circles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def spared(point: api.Params, ctx: api.Context) -> Iterator[None]:
    """A point's work: where the GPU's memory does not do for it, the point is blocked and the next one goes on."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        asked = str(error).partition(" GPU ")[0].rstrip(". ")
        ctx.blocked(point, f"the GPU's memory is too small: {asked}", "choose a smaller model or a larger GPU")
    finally:
        release()
