"""Where lint makes its trials: two at a time, for most of a trial is waiting until an interpreter or a server is up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from runner.execute import Interrupted
from runner.preflight import Machine
from runner.show import Screen

AT_ONCE = 2  # as many cores as CI has
Step = Callable[[], Iterable[str]]


def made(step: Step) -> list[str]:
    """All that a step finds: it may be a generator, which works only while it is read."""
    return list(step())


class Bench:
    """What every trial needs to know, and the two that make them. Used as a context manager."""

    def __init__(self, root: Path, machine: Machine, screen: Screen) -> None:
        self.root, self.machine = root, machine
        self._screen, self._speaking = screen, threading.Lock()
        self._pool, self._over = ThreadPoolExecutor(AT_ONCE, "lint"), threading.Event()

    def findings(self, steps: Iterable[Step]) -> Iterator[str]:
        """What the steps find, in the order of the steps, whichever ends first. They begin at once."""
        begun = [self._pool.submit(made, step) for step in steps]
        return (finding for one in begun for finding in one.result())

    def say(self, message: str) -> None:
        with self._speaking:
            self._screen.progress(message)

    def tick(self) -> None:
        """For whoever waits for a child: raises Interrupted once lint was interrupted."""
        if self._over.is_set():
            raise Interrupted

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind:
            self._over.set()
        self._pool.shutdown(cancel_futures=True)
