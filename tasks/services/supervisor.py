"""Keep a process alive: when it ends, start another at once. What a kubelet or systemd does, in one thread."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, Protocol, TypeVar

from tasks.api import UserError

LOOK_MS = 20
FIRST_S = 60.0


class Living(Protocol):
    @property
    def pid(self) -> int: ...


L = TypeVar("L", bound=Living)


class Keeper(Generic[L]):
    """`current` is the process that is up and ready, None while there is none."""

    def __init__(self, start: Callable[[], AbstractContextManager[L]], changed: Callable[[], None]) -> None:
        self.current: L | None = None
        self._start, self._changed = start, changed
        self._failure: Exception | None = None
        self._over, self._first = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def alive(self) -> L | None:
        """The process that is ready. Raises what stopped the supervisor, if something did."""
        if self._failure:
            raise self._failure
        return self.current

    def begin(self) -> None:
        self._thread.start()
        self._first.wait(FIRST_S)
        if not self.alive():
            raise UserError(f"the supervised process was not ready within {FIRST_S:.0f} s")

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        try:
            while not self._over.is_set():
                with self._start() as living:
                    self._now(living)
                    self._await_end(living.pid)
                    self._now(None)
        except Exception as error:  # shown by `alive` to the thread that measures
            self._failure = error
            self.current = None
        self._first.set()

    def _now(self, living: L | None) -> None:
        self.current = living
        if not self._over.is_set():
            self._changed()
        self._first.set()

    def _await_end(self, pid: int) -> None:
        handle = os.pidfd_open(pid)
        try:
            watch = select.poll()
            watch.register(handle, select.POLLIN)
            while not self._over.is_set() and not watch.poll(LOOK_MS):
                pass
        finally:
            os.close(handle)


@contextmanager
def keeping(
    start: Callable[[], AbstractContextManager[L]], changed: Callable[[], None] = lambda: None
) -> Iterator[Keeper[L]]:
    """Keep what `start` starts alive until the block ends. `start` returns when it is ready and cleans up after it.

    `changed` is called, in the supervisor's thread, whenever the process has become ready or has ended.
    """
    with running(Keeper(start, changed)) as keeper:
        yield keeper


@contextmanager
def running(keeper: Keeper[L]) -> Iterator[Keeper[L]]:
    try:
        keeper.begin()
        yield keeper
    finally:
        keeper.end()
