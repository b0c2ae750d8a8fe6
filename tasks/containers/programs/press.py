"""In a container: press against a limit (`memory` or `pids`) and print, line by line, how far it went.

Standard library only. Every line is a JSON object; the last one that was printed is what is known when the kernel
kills the program.
"""

import json
import os
import re
import signal
import sys

CHUNK = 8 * 2**20


def say(**figures: float) -> None:
    print(json.dumps(figures), flush=True)


def peak_mb() -> float:
    """The largest resident set so far, as the kernel counts it (VmHWM), in 10^6 bytes."""
    with open("/proc/self/status", encoding="utf-8") as status:
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status.read())
    return int(kilobytes) * 1024 / 1e6


def tasks() -> int:
    """How many tasks the kernel counts in the container's own group, by either version of control groups."""
    for place in ("/sys/fs/cgroup/pids.current", "/sys/fs/cgroup/pids/pids.current"):
        if os.path.exists(place):
            with open(place, encoding="utf-8") as current:
                return int(current.read())
    return sum(name.isdigit() for name in os.listdir("/proc"))


def fork(children: list[int]) -> int:
    """Start a child that waits for a signal; the errno when the kernel refuses."""
    try:
        pid = os.fork()
    except OSError as error:
        return error.errno or 0
    if pid == 0:
        signal.pause()
    children.append(pid)
    return 0


def memory(most: int = 4 * 2**30) -> None:
    """Touch memory, chunk by chunk, until the kernel stops it."""
    held: list[bytearray] = []
    refused = fork([])
    while len(held) * CHUNK < most:
        held.append(bytearray(os.urandom(4096)) * (CHUNK // 4096))
        say(peak_rss_mb=peak_mb(), max_pids=tasks(), fork_errno=refused)


def pids(most: int = 4096) -> None:
    """Fork children that stay until one is refused, then end them: the shell around needs room to go on."""
    children: list[int] = []
    refused = 0
    while not refused and len(children) < most:
        refused = fork(children)
    say(peak_rss_mb=peak_mb(), max_pids=tasks(), fork_errno=refused)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if refused:
        raise OSError(refused, os.strerror(refused))


if __name__ == "__main__":
    {"memory": memory, "pids": pids}[sys.argv[1]]()
