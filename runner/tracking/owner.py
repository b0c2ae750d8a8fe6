"""Who is sending: a process is named by host, pid and start time, because pids are used again."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import psutil

HOST, PID, STARTED = "infra90.owner.host", "infra90.owner.pid", "infra90.owner.started"


def tags() -> dict[str, str]:
    """The tags with which this process marks the runs that it opens."""
    return {HOST: socket.gethostname(), PID: str(os.getpid()), STARTED: f"{psutil.Process().create_time():.2f}"}


def is_dead(owner: Mapping[str, str]) -> bool:
    """Whether the tagged process is certainly gone. Of other hosts nothing is known, so they count as alive."""
    if owner.get(HOST) != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(int(owner[PID])).create_time() - float(owner[STARTED])) > 1
    except psutil.NoSuchProcess:
        return True
