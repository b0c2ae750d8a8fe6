"""The served model behind a proxy: HTTP servers of a small network whose answers are known.

Each server is one process of one thread (`upstream_server`): its capacity is one core's, so that a second one is a
second replica, and what is beyond waits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services import process
from tasks.services.open_load import Target
from tasks.services.ray_model import Network

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
READY_S = 20.0
SEED = 7


@dataclass(frozen=True)
class Upstream:
    """A server that is ready on loopback `port`; `version` is what it calls itself, `layers` its network's depth."""

    port: int
    pid: int
    version: str
    layers: int

    @property
    def address(self) -> str:
        return f"{process.LOOPBACK}:{self.port}"


@contextmanager
def serve(version: str, layers: int, log: Path, wrap: tuple[str, ...] = ()) -> Iterator[Upstream]:
    """One server until the block ends, its answer checked first; `wrap` is a command in front of it (taskset)."""
    port = process.free_port()
    command = [*wrap, *argv(port, version, layers)]
    with process.serve(
        command, log=log, ready=lambda: version_at(port) == version, env=ONE_THREAD, timeout_s=READY_S
    ) as child:
        verify(f"{process.LOOPBACK}:{port}", {version: layers})
        yield Upstream(port, child.pid, version, layers)


def argv(port: int, version: str, layers: int) -> list[str]:
    program = [sys.executable, "-m", "tasks.services.upstream_server"]
    return [*program, "--port", str(port), "--version", version, "--layers", str(layers)]


def version_at(port: int) -> str:
    """The version that answers on a port; OSError while none does."""
    with urlopen(f"http://{process.LOOPBACK}:{port}/health", timeout=10) as answer:
        return str(json.load(answer)["version"])


def verify(address: str, layers: Mapping[str, int]) -> str:
    """Ask `address` once and compare with the network computed here; the version that answered. `layers` of each."""
    with urlopen(target(address).url.replace("{seed}", str(SEED)), timeout=20) as answer:
        version, served = answer.headers["x-version"], answer.read().decode()
    if version not in layers:
        raise UserError(f"version {version!r} answered where {sorted(layers)} are served", where=address)
    if served != (right := Network(layers[version]).answer(SEED)):
        raise UserError(f"version {version} answers {served} where {right} is right", where=address)
    return str(version)


def target(address: str) -> Target:
    """What a load asks of a server, or of a proxy in front of it."""
    return Target(f"http://{address}/infer?seed={{seed}}")
