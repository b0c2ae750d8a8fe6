"""The resident memory of a server and its children over time, and how fast it grows."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.api import UserError

LOOK_S = 0.5
HOUR_S = 3600


@contextmanager
def watched(pid: int) -> Iterator[list[tuple[float, float]]]:
    """(s, MiB) of `pid` and its children, twice a second, while the block lasts."""
    over = threading.Event()
    memory: list[tuple[float, float]] = []
    watcher = threading.Thread(target=look, args=(pid, over, memory))
    watcher.start()
    try:
        yield memory
    finally:
        over.set()
        watcher.join()


def look(pid: int, over: threading.Event, memory: list[tuple[float, float]]) -> None:
    """Append the resident memory until it is over."""
    import psutil

    started = time.monotonic()
    while not over.wait(LOOK_S):
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        memory.append((time.monotonic() - started, sum(one.memory_info().rss for one in family) / 2**20))


def slope(memory: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least-squares growth of (s, MiB) in MiB/h and its standard error. Raises UserError on fewer than 8 samples."""
    import numpy as np

    if len(memory) < 8:
        raise UserError(f"{len(memory)} memory samples are too few for a slope")
    seconds, megabytes = np.array(memory).T
    (gradient, _), covariance = np.polyfit(seconds, megabytes, 1, cov=True)
    return float(gradient * HOUR_S), float(np.sqrt(covariance[0, 0]) * HOUR_S)


def save(memory: Sequence[tuple[float, float]], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as sink:
        writer: Any = csv.writer(sink)
        writer.writerow(["at_s", "rss_mb"])
        writer.writerows((round(at, 2), round(megabytes, 3)) for at, megabytes in memory)
