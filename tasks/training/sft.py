"""Supervised fine-tuning by trl: rows through the chat template, the loss on the answers only, every step's loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tasks.models import device
from tasks.training import memory
from tasks.training.base import Recipe
from tasks.training.rows import Row, conversations


@dataclass(frozen=True)
class Trained:
    """`losses` of every optimizer step (mean over its answer tokens); memory in bytes: see `memory.Use`.

    `steps_s` are the seconds of every step but the first, which sets things up; `seconds` those of the whole training.
    """

    losses: list[float]
    seconds: float
    steps_s: list[float]
    use: memory.Use

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def step_ms(self) -> float:
        """Milliseconds of a step, median; of a training of one step that one's."""
        return 1e3 * median(self.steps_s or [self.seconds])

    def mean_loss(self, *, last: bool, share: float = 0.1) -> float:
        """Mean of the first or of the last tenth of the steps: one step of two rows says little."""
        count = max(1, int(len(self.losses) * share))
        part = self.losses[-count:] if last else self.losses[:count]
        return sum(part) / count


def train(
    model: Any, tokenizer: Any, rows: Sequence[Row], recipe: Recipe, scratch: Path, seed: int,
    say: Callable[[str], None],
) -> Trained:  # fmt: skip
    """Tune `model` in place on `rows`. The order of the rows depends on the seed alone, not on the batch size."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(scratch), per_device_train_batch_size=recipe.batch, num_train_epochs=recipe.epochs,
        gradient_accumulation_steps=recipe.accumulate, learning_rate=recipe.learning_rate, seed=seed,
        max_length=None, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        gradient_checkpointing=False, bf16=device.name() == "cuda", use_cpu=device.name() == "cpu",
        dataloader_pin_memory=False, lr_scheduler_type="linear",
    )  # fmt: skip
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(conversations(rows)), processing_class=tokenizer
    )
    watch = memory.Watch(trainer.model)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(watch.callback(say))
    began = time.perf_counter()
    with watch:
        trainer.train()
    seconds = time.perf_counter() - began
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    steps_s = [after - before for before, after in pairwise(watch.ends)]
    return Trained(losses, seconds, steps_s, watch.used(trainer.optimizer))
