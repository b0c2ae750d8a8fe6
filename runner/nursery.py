"""Where the children come from: one process per interpreter that has imported what every worker needs, and forks.

Starting Python and importing pydantic takes longer than a short experiment. Each job still gets a process of its own
that ends as any Python program does; nothing of one job is left for the next, for only the child imports a kind.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

MARK = "INFRA90_JOB"  # in the environment of every process that a job starts, however deep
BLANK = "0" * 32  # room for the mark: the child overwrites it where /proc shows it
CODE = Path(__file__).resolve().parent.parent


class Child:
    """A job's process. It is the nursery's by birth, so it is watched and signalled through its pidfd."""

    def __init__(self, pid: int, pidfd: int, answer: socket.socket) -> None:
        self.pid, self.pidfd, self.answer = pid, pidfd, answer

    def ended(self, within_s: float | None) -> bool:
        """Whether it has ended, or does so within that time; None waits for it."""
        return bool(select.select([self.pidfd], [], [], within_s)[0])

    def send(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass  # it has ended

    def code(self) -> int | None:
        """Its exit code once it has ended, negative for a signal; None when the nursery was killed."""
        said = self.answer.recv(32)
        return int(said) if said else None

    def close(self) -> None:
        os.close(self.pidfd)
        self.answer.close()


class Nursery:
    """The process to fork from, and the socket that orders go through."""

    def __init__(self, python: Path, log: int) -> None:
        self.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [str(python), "-m", "runner.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[theirs.fileno()],
                start_new_session=True, cwd=CODE, env={**environment(), MARK: BLANK},
            )  # fmt: skip
        atexit.register(self.close)

    def child(self, order: Mapping[str, Any], log: int, leash: int) -> Child | None:
        """Fork a child for an order. `leash` is a pipe whose other end is ours: the child dies when it is closed.

        None when the nursery itself could not start; what it said is in the log.
        """
        answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                socket.send_fds(self.orders, [json.dumps(order).encode()], [log, leash, theirs.fileno()])
            except OSError:
                answer.close()
                return None
        said, pidfds, _, _ = socket.recv_fds(answer, 32, 1, socket.MSG_CMSG_CLOEXEC)
        if not said:
            answer.close()
            return None
        return Child(int(said), pidfds[0], answer)

    def close(self) -> None:
        self.orders.close()
        self.process.wait()


def child(python: Path, order: Mapping[str, Any], log: int, leash: int) -> Child | None:
    """A child of that interpreter's nursery, which is started when there is none (any more)."""
    place = _nurseries(os.getpid(), threading.get_ident())
    if python not in place or place[python].process.poll() is not None:
        place[python] = Nursery(python, log)
    return place[python].child(order, log, leash)


@cache
def _nurseries(process: int, thread: int) -> dict[Path, Nursery]:
    """This very thread's: a nursery serves one child at a time, and a forked copy must not send orders to it."""
    return {}


def environment() -> dict[str, str]:
    """The user's environment without what would leak into a measurement or another tracking run."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "HYDRA_")) and k != "PYTHONPATH"}
    return {**kept, "PYTHONPATH": str(CODE), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": ""}
