"""The GPU memory and stream that a TensorRT engine works with, through torch."""

from __future__ import annotations

from typing import Any

from tasks.api import UserError


def place(array: Any) -> Any:
    """A copy of the numpy array on the current GPU."""
    import torch

    return torch.from_numpy(array).cuda()


def empty(shape: tuple[int, ...]) -> Any:
    """Uninitialised float32 memory on the current GPU."""
    import torch

    return torch.empty(shape, dtype=torch.float32, device="cuda")


def stream() -> Any:
    """A new stream: `.cuda_stream` is its handle, `.synchronize()` waits for it."""
    import torch

    return torch.cuda.Stream()


def name() -> str:
    """The current GPU's model."""
    import torch

    return str(torch.cuda.get_device_name())


def on(index: int) -> Any:
    """A context in which GPU `index` is the current one."""
    import torch

    return torch.cuda.device(index)


def other_model(index: int) -> int:
    """The first GPU of another model than GPU `index`. UserError when there is none."""
    import torch

    own = torch.cuda.get_device_name(index)
    for other in range(torch.cuda.device_count()):
        if torch.cuda.get_device_name(other) != own:
            return other
    raise UserError(f"every GPU here is a {own}", remedy="run it on a machine with two GPU models")
