"""Open-loop HTTP load: requests are sent when they are due, whether or not earlier ones were answered.

Arrivals are a Poisson process, and a latency counts from the moment the request was *due*: a stalled server is not
spared the requests that it made wait (Tene's "coordinated omission"). That, and failures counted one by one, is why
neither the closed-loop tools (hey, ab, wrk: their workers also fire in step) nor perf_analyzer (it gives up at the
first failure) will do. The load is a process of its own: its schedule does not depend on the measuring program.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.api import Spread, UserError
from tasks.services import open_load_client as client


@dataclass(frozen=True)
class Target:
    """Where requests go. `{seed}` in the URL and in the body becomes the request's number; a body makes it a POST."""

    url: str
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """What became of every request: when it was due (s from the start), its latency (s) and HTTP status (0: none)."""

    due: Any
    latency: Any
    status: Any

    def achieved_qps(self, seconds: float) -> float:
        """Requests answered with 200 by `seconds` after the start, per second."""
        return float(((self.status == 200) & (self.due + self.latency <= seconds)).sum() / seconds)

    def error_pct(self) -> float:
        """Requests without a good answer, in percent; 100 when there were no requests."""
        return float(100 * (self.status != 200).mean()) if len(self.status) else 100.0

    def between(self, start: float, end: float) -> Answers:
        """The requests due in [start, end)."""
        part = (self.due >= start) & (self.due < end)
        return Answers(self.due[part], self.latency[part], self.status[part])

    def latency_ms(self) -> Spread:
        """Latencies of the good answers. Raises UserError when there is none."""
        import numpy as np

        good = self.latency[self.status == 200] * 1e3
        if not len(good):
            raise UserError("no request was answered with status 200")
        p50, p95, p99 = (float(value) for value in np.percentile(good, [50, 95, 99]))
        return Spread(len(good), p50, p95, p99, float(good.std()))


@contextmanager
def load(target: Target, phases: Sequence[tuple[float, float]], out: Path, seed: int) -> Iterator[Callable[[], None]]:
    """Offer each `(seconds, qps)` in turn, from the moment the block begins; it ends when all is answered or timed out.

    Read the result with `answers(out)` afterwards. The block gets a function that ends the load early.
    """
    job = {
        "url": target.url,
        "body": target.body,
        "headers": dict(target.headers),
        "phases": phases,
        "out": str(out),
        "seed": seed,
    }
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-P", client.__file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
        process.stdout.readline()  # the first request is due
        yield process.terminate
        process.wait(sum(seconds for seconds, _ in phases) + 2 * client.TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise UserError(f"the load generator failed with exit code {process.returncode}; its message is above")


def answers(out: Path) -> Answers:
    import numpy as np

    return Answers(*np.load(out, allow_pickle=False))
