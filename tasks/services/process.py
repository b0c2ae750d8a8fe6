"""Start a real server as a child, wait until it answers, stop it by its own pid whatever happens."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.api import UserError

LOOPBACK = "127.0.0.1"
OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
FRAME = re.compile(r'File ".+", line \d+(, in .+)?$|Traceback \(most recent call last\):$')
SOURCE = re.compile(r"(^|\]) {4,}\S")  # the line of code under a frame, after what a server puts before its lines
FIRST, BELOW, TRIES = 1024, 12_000, 20  # the first port without privileges; how many to draw from, and how often


def free_port() -> int:
    """A loopback TCP port that was free a moment ago; check the started pid's health, not the port alone.

    It is none that the kernel gives to outgoing connections: a load of thousands elsewhere on the machine must not take
    it before the server does.
    """
    lowest = int(OUTGOING.read_text(encoding="ascii").split()[0])
    drawn = [lowest - 1 - int.from_bytes(os.urandom(2)) % BELOW for _ in range(TRIES)]
    for port in (*(port for port in drawn if port >= FIRST), 0):  # 0: whichever the kernel has left
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue  # somebody listens there
            return int(probe.getsockname()[1])
    raise UserError("no TCP port is free on this machine")


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message: without the frames of Python's tracebacks, which the log keeps."""
    kept: list[str] = []
    of_frame = False
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else ():
        if FRAME.search(line) or (of_frame and SOURCE.search(line)):
            of_frame = True
            continue
        of_frame = False
        kept.append(line)
    return "\n".join(kept[-lines:])


@contextmanager
def serve(
    argv: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout_s: float = 60,
    stop_signal: int = signal.SIGTERM,
    stop_s: float = 4,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `argv` until the block ends. `ready` is polled until it returns True (its OSErrors mean "not yet").

    The child dies with this process even on SIGKILL (`setpriv --pdeathsig`), and leads a process group of its own
    so that its children are stopped with it. Raises UserError with the log's tail if it exits or is not ready in time.
    """
    with log.open("ab") as sink:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})}, cwd=cwd, process_group=0,
        )  # fmt: skip
    try:
        await_ready(process, ready, timeout_s, argv[0], log)
        yield process
    finally:
        stop(process, stop_signal, stop_s)


def await_ready(
    process: subprocess.Popen[bytes], ready: Callable[[], bool], timeout_s: float, name: str, log: Path
) -> None:
    """Poll until ready; a dead process or a spent time-out is a UserError with the log's last lines."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None:
        try:
            if ready():
                return
        except OSError:
            pass  # refused or reset: the server is not listening yet
        if time.monotonic() > deadline:
            raise UserError(f"{name} was not ready within {timeout_s:.0f} s; its log ends:\n{tail(log)}")
        time.sleep(0.05)
    raise UserError(f"{name} exited with {process.returncode} while starting; its log ends:\n{tail(log)}")


def stop(process: subprocess.Popen[bytes], stop_signal: int = signal.SIGTERM, stop_s: float = 4) -> None:
    """Ask the process to stop, then kill what is left of its group."""
    if process.poll() is None:
        process.send_signal(stop_signal)
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
