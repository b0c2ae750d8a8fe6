"""A real Redis: an own port, nothing on disk, its own figures from INFO, stopped with the block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.services import process

MAX_CLIENTS = 8000  # above Redis' own need of 32 descriptors and the largest load of the plans (5,000 connections)


@dataclass(frozen=True)
class Usage:
    """Redis' own counters at one moment, from INFO: key look-ups that hit and missed, CPU seconds, bytes in use."""

    hits: int
    misses: int
    cpu_s: float
    used_bytes: int
    commands: int


@dataclass(frozen=True)
class Redis:
    """A server that is ready. `admin` is a connection of ours; INFO on it counts as no key look-up."""

    port: int
    pid: int
    admin: Any

    @property
    def address(self) -> str:
        return f"{process.LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def usage(self) -> Usage:
        """The counters now. CPU seconds are user + system of the whole process (`used_cpu_user`, `used_cpu_sys`)."""
        info = self.admin.info()
        return Usage(
            hits=info["keyspace_hits"],
            misses=info["keyspace_misses"],
            cpu_s=info["used_cpu_user"] + info["used_cpu_sys"],
            used_bytes=info["used_memory"],
            commands=info["total_commands_processed"],
        )


@contextmanager
def serve(log: Path, *, args: Sequence[str] = (), timeout_s: float = 10) -> Iterator[Redis]:
    """Serve an empty Redis without persistence until the block ends. `args` are further redis-server options.

    Raises UserError with the log's tail when it does not start; needs the `redis` package and `redis-server`.
    """
    import redis

    port = process.free_port()
    argv = [
        "redis-server", "--bind", process.LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no",
        "--daemonize", "no", "--dir", str(log.parent), "--maxclients", str(MAX_CLIENTS), "--tcp-backlog", "4096", *args,
    ]  # fmt: skip
    admin = redis.Redis(host=process.LOOPBACK, port=port, socket_timeout=10)

    def ready() -> bool:
        try:
            return bool(admin.ping())
        except redis.ConnectionError as error:
            raise ConnectionError(str(error)) from error  # `process.serve` waits on OSErrors; redis' is none

    with process.serve(argv, log=log, ready=ready, timeout_s=timeout_s) as child:
        try:
            yield Redis(port, child.pid, admin)
        finally:
            admin.close()
