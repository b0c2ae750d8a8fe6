"""What a server of our own asks of an engine in its process: take a prompt, hand back tokens as they come."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

STOP, LENGTH = "stop", "length"  # why an answer ended, in the words of the OpenAI API
TURN_S = 5e-5


def first_token_goes_out() -> None:
    """Let the server's thread send what it has. An engine that keeps Python's lock would hold it back to the end, and
    clients would see a late first token and no time between the others."""
    time.sleep(TURN_S)


@dataclass(frozen=True)
class Setup:
    """How an engine is set up. `max_batch` requests at a time; `kv_gb` GiB of KV cache where the engine has a pool.

    `dtype` bfloat16, float16 or float32, None for the engine's own best on this device; `threads` None for its own
    choice; `cache` is a folder for converted models, kept between runs.
    """

    max_model_len: int = 1024
    max_batch: int = 16
    kv_gb: float = 0.5
    dtype: str | None = None
    threads: int | None = None
    gpu: bool = False
    cache: Path | None = None
    name: str = ""  # what the model is called; its folder's name when empty
    python: Path | None = None


@dataclass(eq=False)
class Job:
    """One request inside the engine. `deliver(ids, finish)` may be called from any thread; `finish` "" means more."""

    prompt: list[int]
    max_tokens: int
    eos: frozenset[int]
    temperature: float
    deliver: Callable[[Sequence[int], str], None]
    given: int = 0
    done: bool = False

    def give(self, token: int) -> None:
        """Pass on the next token. The end-of-sequence token ends the answer and is not part of it."""
        if self.done:
            return
        self.given += 1
        if token in self.eos:
            self.finish(STOP)
        else:
            self.done = self.given >= self.max_tokens
            self.deliver([token], LENGTH if self.done else "")

    def finish(self, why: str) -> None:
        if not self.done:
            self.done = True
            self.deliver([], why)


class Engine(Protocol):
    """Runs jobs; `submit` is called on the server's event loop and must not wait."""

    def submit(self, job: Job) -> None: ...


@dataclass
class StaticBatches:
    """Static batching: up to `largest` waiting requests start together, and the next ones when all of them are done.

    `generate(jobs)` gives every job its tokens. With `largest` 1 it is one request after the other.
    """

    generate: Callable[[list[Job]], None]
    largest: int
    window_s: float = 0.005
    waiting: queue.Queue[Job] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        threading.Thread(target=self.work, daemon=True).start()

    def submit(self, job: Job) -> None:
        self.waiting.put(job)

    def work(self) -> None:
        while True:
            batch = self.collect()
            try:
                self.generate(batch)
            except Exception as error:  # the server goes on; the requests of this batch are told
                for job in batch:
                    job.finish(f"error: {type(error).__name__}: {error}")

    def collect(self) -> list[Job]:
        """The first waiting request and those that join it within the window, with the same temperature."""
        batch = [self.waiting.get()]
        deadline = time.monotonic() + self.window_s
        while len(batch) < self.largest:
            try:
                job = self.waiting.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if job.temperature != batch[0].temperature:
                self.waiting.put(job)
                break
            batch.append(job)
        return batch
