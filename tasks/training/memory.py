"""What a training step keeps in memory, counted tensor by tensor: the same on a busy CPU and on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Use:
    """Bytes: of the gradients, of the optimizer's state, and of what autograd keeps for the backward pass (largest)."""

    gradients: int
    optimizer: int
    activations: int


class Watch:
    """Counts, while entered, what autograd saves for the backward pass of each micro-batch, weights left out.

    `ends` are the times at which steps were over (and a GPU done with them). Counting itself takes a part of them.
    """

    def __init__(self, model: Any) -> None:
        self.weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self.model = model
        self.seen: dict[int, int] = {}
        self.largest = self.gradients = 0
        self.ends: list[float] = []

    def __enter__(self) -> Watch:
        import torch

        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.save, lambda kept: kept)
        self.hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hooks.__exit__(kind, error, trace)

    def save(self, tensor: Any) -> Any:
        """Called by autograd for each tensor it keeps; views of one storage are counted once."""
        place = tensor.untyped_storage().data_ptr()
        if place not in self.weights:
            self.seen[place] = tensor.untyped_storage().nbytes()
        return tensor

    def close_micro_batch(self) -> None:
        self.largest = max(self.largest, sum(self.seen.values()))
        self.seen.clear()

    def close_step(self) -> None:
        grads = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        self.gradients = max(self.gradients, sum(grad.numel() * grad.element_size() for grad in grads))

    def callback(self, say: Callable[[str], None], every: int = 100) -> Any:
        """For the trainer: marks where micro-batches and steps end, and says how the loss goes."""
        from transformers import TrainerCallback

        watch = self

        class Marks(TrainerCallback):
            def on_substep_end(self, *_: Any, **__: Any) -> None:
                watch.close_micro_batch()

            def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
                watch.close_micro_batch()
                watch.close_step()

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if not logs or "loss" not in logs:
                    return
                watch.ends.append(time.perf_counter())
                if state.global_step % every == 0:
                    say(f"step {state.global_step} of {state.max_steps}, loss {logs['loss']:.3f}")

        return Marks()

    def used(self, optimizer: Any) -> Use:
        state = getattr(optimizer, "optimizer", optimizer).state.values()
        kept = [tensor for each in state for tensor in each.values() if hasattr(tensor, "element_size")]
        return Use(self.gradients, sum(t.numel() * t.element_size() for t in kept), self.largest)
