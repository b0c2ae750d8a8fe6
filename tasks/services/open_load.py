"""Open-loop HTTP load: requests are sent when they are due, whether or not earlier ones were answered.

Arrivals are a Poisson process, and a latency counts from the moment the request was *due*: a stalled server is not
spared the requests that it made wait (Tene's "coordinated omission"; closed-loop tools such as hey, ab and wrk fire
in step and skip them). Runs as a process of its own, so that the load's schedule does not depend on the measuring
program: `python open_load.py URL '[[seconds, qps], …]' OUT.npy SEED`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 10.0
CONNECTIONS = 256
UNANSWERED = 0  # status of a request that got no answer


@dataclass(frozen=True)
class Answers:
    """What became of every request: when it was due (s from the start), its latency (s) and HTTP status."""

    due: Any
    latency: Any
    status: Any

    @property
    def good(self) -> Any:
        return self.status == 200

    def achieved_qps(self, seconds: float) -> float:
        """Requests answered rightly by `seconds` after the start, per second."""
        return float((self.good & (self.due + self.latency <= seconds)).sum() / seconds)

    def error_pct(self) -> float:
        return float(100 * (1 - self.good.mean())) if len(self.status) else 100.0

    def between(self, start: float, end: float) -> Answers:
        """The requests due in [start, end)."""
        part = (self.due >= start) & (self.due < end)
        return Answers(self.due[part], self.latency[part], self.status[part])


@contextmanager
def load(url: str, phases: Sequence[tuple[float, float]], out: Path, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    """Offer each `(seconds, qps)` in turn to `url`, which gets `?seed=<n>`; read `answers(out)` after it has ended."""
    argv = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, __file__, url, json.dumps(phases), str(out), str(seed)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it says when the first request is due
        yield process
        process.wait(sum(seconds for seconds, _ in phases) + 2 * TIMEOUT_S)
    finally:
        process.kill()
        process.wait()


def answers(out: Path) -> Answers:
    import numpy as np

    return Answers(*np.load(out, allow_pickle=False))


def arrivals(phases: Sequence[tuple[float, float]], seed: int) -> list[float]:
    """Due times of a Poisson process whose rate changes from phase to phase, in seconds from the start."""
    import numpy as np

    draw, start, due = np.random.default_rng(seed), 0.0, []
    for seconds, qps in phases:
        due.append(start + np.sort(draw.uniform(0, seconds, draw.poisson(seconds * qps))))
        start += seconds
    return [float(moment) for moment in np.concatenate(due)]


async def offer(url: str, due: Sequence[float]) -> list[tuple[float, float, float]]:
    """Send every request when it is due; (due, latency, status) of each."""
    import aiohttp

    loop = asyncio.get_running_loop()
    seen: list[tuple[float, float, float]] = []

    async def one(number: int, moment: float) -> None:
        status = UNANSWERED
        try:
            async with session.get(f"{url}/?seed={number}") as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            pass  # recorded as unanswered
        seen.append((moment, loop.time() - started - moment, status))

    limits = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=limits, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        started = loop.time()
        print("started", flush=True)
        async with asyncio.TaskGroup() as group:
            for number, moment in enumerate(due):
                if (early := started + moment - loop.time()) > 0:
                    await asyncio.sleep(early)
                group.create_task(one(number, moment))
    return seen


def main(url: str, phases: str, out: str, seed: str) -> None:
    import numpy as np
    import uvloop

    seen = uvloop.run(offer(url, arrivals(json.loads(phases), int(seed))))
    np.save(out, np.array(sorted(seen)).T.reshape(3, -1), allow_pickle=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
