"""End every process that works in a folder, once its owner is gone, however the owner ended.

For servers that start daemons of their own (Ray): those leave their process group and their parent, rename
themselves, and some outlive the SIGKILL of whoever wanted them. What they cannot hide is the private folder that
their command line, environment or open files name. Runs as a process of its own, in a session of its own:
`python reaper.py FOLDER OWNER_PID`; it waits for the end of its standard input, which its owner holds.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 5.0


@contextmanager
def reaping(folder: Path) -> Iterator[None]:
    """When the block ends, or this process dies: no other process works in `folder`, and the folder is gone."""
    reaper = subprocess.Popen(
        [sys.executable, "-P", __file__, str(folder), str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/", start_new_session=True,
        env={},  # no mark of the owner's: who sweeps those away must not meet the reaper before it has done its work
    )  # fmt: skip
    try:
        yield
    finally:
        reaper.communicate(timeout=4 * PATIENCE_S)


def workers(folder: str, spared: set[int]) -> list[int]:
    """The processes that name `folder`, without `spared`."""
    found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in found if pid not in spared and names(pid, folder)]


def names(pid: int, folder: str) -> bool:
    """Whether a process's command line, environment or open files name `folder`; False when it is gone or not ours."""
    process = Path(f"/proc/{pid}")
    try:
        said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        return folder.encode() in said or any(folder in os.readlink(one) for one in (process / "fd").iterdir())
    except OSError:
        return False


def reap(folder: str, spared: set[int]) -> None:
    """Kill until none is left: one that dies may have started another meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while (pids := workers(folder, spared)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended by itself
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    reap(sys.argv[1], {os.getpid(), int(sys.argv[2])})
