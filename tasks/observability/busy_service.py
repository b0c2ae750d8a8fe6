"""A service under load: workers that serve one request after the other, each timed where it is served."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Work = Callable[[random.Random], float]  # how long the next request works, in s
Observe = Callable[[random.Random, float], None]  # told the time in s that a request really took


@contextmanager
def serving(work_s: Work, observe: Observe, workers: int, seed: int) -> Iterator[None]:
    """Requests from the beginning of the block to its end; those in progress are finished and observed."""
    ended = threading.Event()

    def serve(worker: int) -> None:
        chance = random.Random(seed * 1000 + worker)
        while not ended.is_set():
            began = time.perf_counter()
            time.sleep(work_s(chance))
            observe(chance, time.perf_counter() - began)

    threads = [threading.Thread(target=serve, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
