"""The process that sends an open-loop HTTP load; `open_load` starts it. It needs aiohttp, uvloop and numpy only.

Standard input: `{url, body, headers, phases: [[seconds, qps], …], seed, out}`. It writes an array of three rows to
`out`: when each request was due (s), its latency from then (s), its HTTP status (0: no answer).
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence

TIMEOUT_S = 10.0
CONNECTIONS = 256
UNANSWERED = 0


def arrivals(phases: Sequence[tuple[float, float]], seed: int) -> list[float]:
    """Due times of a Poisson process whose rate changes from phase to phase, in seconds from the start."""
    import numpy as np

    draw, start, due = np.random.default_rng(seed), 0.0, []
    for seconds, qps in phases:
        due.append(start + np.sort(draw.uniform(0, seconds, draw.poisson(seconds * qps))))
        start += seconds
    return [float(moment) for moment in np.concatenate(due)]


async def offer(
    url: str, body: str, headers: Mapping[str, str], due: Sequence[float]
) -> list[tuple[float, float, float]]:
    """Send every request when it is due, or until SIGTERM; (due, latency, status) of each."""
    import aiohttp

    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    seen: list[tuple[float, float, float]] = []

    async def one(number: int, moment: float) -> None:
        status = UNANSWERED
        filled = body.replace("{seed}", str(number)).encode() if body else None
        try:
            async with session.request(
                "POST" if body else "GET", url.replace("{seed}", str(number)), data=filled, headers=headers
            ) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
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
                if stopped.is_set():
                    break
                group.create_task(one(number, moment))
    return seen


def main() -> None:
    import numpy as np
    import uvloop

    job = json.load(sys.stdin)
    seen = uvloop.run(offer(job["url"], job["body"], job["headers"], arrivals(job["phases"], job["seed"])))
    np.save(job["out"], np.array(sorted(seen)).T.reshape(3, -1), allow_pickle=False)


if __name__ == "__main__":
    main()
