"""What a running server uses: CPU time and memory of its processes, memory of the GPU."""

from __future__ import annotations

import subprocess
from typing import Any


def cpu_seconds(pid: int) -> float:
    """CPU time so far of a process and its children: the server and one stub for each instance."""
    times = [process.cpu_times() for process in family(pid)]
    return float(sum(time.user + time.system for time in times))


def rss_mb(pid: int) -> float:
    """Resident memory of a process and its children; pages that they share count in each of them."""
    return float(sum(process.memory_info().rss for process in family(pid))) / 2**20


def family(pid: int) -> list[Any]:
    import psutil

    server = psutil.Process(pid)
    return [server, *server.children(recursive=True)]


def gpu_memory_mb() -> float:
    """What is in use on the first GPU, whoever uses it."""
    argv = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    answer = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=30)
    return float(answer.stdout)
