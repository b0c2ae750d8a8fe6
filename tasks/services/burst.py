"""Thousands of HTTP requests a second, open loop, every answer compared with what the model must say.

`open_load` is the simpler choice up to about a thousand requests a second; here the sending process is lean enough to
offer several times that from one core, and the answers' numbers come back for comparison.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import Spread, UserError
from tasks.services import burst_client as client
from tasks.services.process import LOOPBACK

REFUSED = (429, 503)
PERCENTILES = (10, 25, 50, 75, 90, 95, 99, 99.9)
SHARES = {
    "answered_pct": "requests answered with 200, of those that were due",
    "rejected_pct": "requests refused with 429 or 503, the back-pressure of a full queue, of those that were due",
    "error_rate_pct": "requests that were sent and got neither an answer nor a refusal (given up after the client's"
    " time-out, cut off, failed), of those that were due",
    "unsent_pct": "requests that the load generator could not send, of those that were due: every one of its"
    " connections still waited for the server, or it was itself too late (send_lag)",
}


@dataclass(frozen=True)
class Target:
    """Where requests go. In `body`, `{number}` is the request's own and `{token}` the question (of `tokens` many).

    `pattern` finds the number in a good answer (its first group).
    """

    port: int
    path: str
    body: str
    pattern: str
    tokens: int


@dataclass(frozen=True)
class Answers:
    """Of every request: when it was due (s), latency from then (s), HTTP status (0: none), token, number answered.

    `sent`: how long after it was due it went to a connection (s; NaN: never). `lag`: how long after it was due the
    load generator came to it (s), whether or not a connection was free then.
    """

    due: Any
    latency: Any
    status: Any
    token: Any
    number: Any
    sent: Any
    lag: Any

    def achieved_qps(self, seconds: float) -> float:
        """Requests answered with 200 by `seconds` after the start, per second."""
        return float(((self.status == 200) & (self.due + self.latency <= seconds)).sum() / seconds)

    def sent_qps(self, seconds: float) -> float:
        """Requests that were put on the wire by `seconds` after the start, per second."""
        return float((self.due + self.sent <= seconds).sum() / seconds)

    def shares(self) -> dict[str, float]:
        """What became of the requests that were due, in percent of them; the four make 100 (see `SHARES`)."""
        import numpy as np

        good, refused, sent = self.status == 200, np.isin(self.status, REFUSED), ~np.isnan(self.sent)
        kinds = (good, refused, sent & ~good & ~refused, ~sent)
        return {name: 100 * float(which.mean()) for name, which in zip(SHARES, kinds, strict=True)}

    def lag_p99_ms(self) -> float:
        """99th percentile of the load generator's own delay, in ms: the part of a latency that is not the server's."""
        import numpy as np

        return float(np.percentile(self.lag, 99) * 1e3)

    def wrong(self, expected: Any, tolerance: float) -> int:
        """Good answers whose number is not the one of their own token (`expected`, by token)."""
        import numpy as np

        good = self.status == 200
        distance = np.abs(self.number[good] - np.asarray(expected)[self.token[good].astype(int)])
        return int((~(distance <= tolerance)).sum())

    def good_ms(self) -> Any:
        """Latencies of the good answers in ms. UserError when there are none."""
        good = self.latency[self.status == 200] * 1e3
        if not len(good):
            raise UserError("no request was answered with status 200")
        return good

    def latency_ms(self) -> Spread:
        import numpy as np

        good = self.good_ms()
        p50, p95, p99 = (float(value) for value in np.percentile(good, [50, 95, 99]))
        return Spread(len(good), p50, p95, p99, float(good.std()))

    def percentiles_ms(self) -> dict[str, float]:
        """`latency_p10_ms` … `latency_p999_ms` of the good answers."""
        import numpy as np

        found = np.percentile(self.good_ms(), PERCENTILES)
        return {f"latency_p{p:g}_ms".replace(".", ""): float(v) for p, v in zip(PERCENTILES, found, strict=True)}


@contextmanager
def load(
    target: Target, phases: Sequence[tuple[float, float]], out: Path, seed: int, *,
    connections: int = 256, timeout_s: float = 2.0, patience_s: float = 0.1,
) -> Iterator[None]:  # fmt: skip
    """Offer each `(seconds, qps)` in turn while the block lasts and until all is answered or given up.

    A request that finds none of the connections free for `patience_s` is not sent.
    """
    job = {
        **vars(target), "host": LOOPBACK, "phases": phases, "connections": connections, "timeout_s": timeout_s,
        "patience_s": patience_s, "seed": seed, "out": str(out),
    }  # fmt: skip
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
        yield
        process.wait(10 * sum(seconds for seconds, _ in phases) + 30)
    except subprocess.TimeoutExpired as late:
        raise UserError(f"the load generator did not end within {late.timeout:g} s") from late
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise UserError(f"the load generator failed with exit code {process.returncode}; its message is above")


def offer(target: Target, seconds: float, qps: float, out: Path, seed: int, **more: Any) -> Answers:
    """One rate for some seconds, and what became of every request."""
    with load(target, [(seconds, qps)], out, seed, **more):
        pass
    return answers(out)


def answers(out: Path) -> Answers:
    import numpy as np

    return Answers(*np.load(out, allow_pickle=False))
