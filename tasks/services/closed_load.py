"""Closed-loop HTTP load by `hey`: so many connections, each asking again as soon as it was answered.

It finds the rate that a system can carry. Latencies under it say little (see `open_load`): use it for throughput.
"""

from __future__ import annotations

import re
import subprocess

from tasks.api import UserError

ROOM_S = 30.0


def throughput(url: str, connections: int, seconds: float) -> float:
    """Requests answered with 200 per second. Raises UserError when one was answered otherwise or not at all."""
    argv = ["hey", "-z", f"{seconds:g}s", "-c", str(connections), url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + ROOM_S, check=False)
    if done.returncode:
        raise UserError(done.stderr.strip() or done.stdout.strip(), where="hey")
    return rate(done.stdout)


def rate(report: str) -> float:
    """The rate in hey's report, when all its answers were 200."""
    statuses = re.findall(r"^\s+\[(\d{3})\]\s+\d+ responses$", report, re.MULTILINE)
    rates = re.findall(r"^\s+Requests/sec:\s+([\d.]+)$", report, re.MULTILINE)
    if statuses != ["200"] or len(rates) != 1 or "Error distribution:" in report:
        raise UserError(f"not every request was answered with 200:\n{report.strip()[-600:]}", where="hey")
    return float(rates[0])
