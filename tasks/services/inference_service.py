"""The learner's own service, started by its own command (`serve.py`): gateway, Triton, Prometheus."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import process
from tasks.services.open_load import Target

ENTRY = "serve.py"
PIXELS = 64  # of the 8x8 digit that a request carries


@dataclass(frozen=True)
class Service:
    """Where its parts answer (URLs), and their process ids in the order that serve.py prints."""

    gateway: str
    http: str
    metrics: str
    prometheus: str
    pids: tuple[int, ...]

    @property
    def target(self) -> Target:
        """Requests through the gateway. The first pixel differs a little from request to request: none is a repeat."""
        data = ", ".join(["{seed}e-9", *["0.5"] * (PIXELS - 1)])
        tensor = f'{{"name": "image", "shape": [1, {PIXELS}], "datatype": "FP32", "data": [{data}]}}'
        return Target(f"{self.gateway}/infer", f'{{"inputs": [{tensor}]}}')


@contextmanager
def serve(folder: Path, scratch: Path, log: Path, *args: str, timeout_s: float = 90) -> Iterator[Service]:
    """Run `serve.py --free-ports` of `folder` until the block ends; ready means that it said so.

    UserError with its last words when it ends or is silent for too long.
    """
    if not (folder / ENTRY).is_file():
        raise UserError(f"there is no {ENTRY}", where=folder.name)
    run = scratch / "run"
    argv = [sys.executable, ENTRY, "--free-ports", "--run", str(run), *args]
    started = log.stat().st_size if log.exists() else 0
    with process.serve(
        argv, log=log, ready=lambda: announced(log, started) is not None, cwd=folder, timeout_s=timeout_s, stop_s=15
    ):
        said = announced(log, started) or {}
        yield Service(said["gateway"], said["http"], said["metrics"], said["prometheus"], tuple(said["pids"]))


def announced(log: Path, start: int) -> dict[str, Any] | None:
    """The JSON line in which serve.py says where everything answers."""
    for line in log.read_bytes()[start:].splitlines():
        if line.startswith(b'{"gateway"'):
            found: dict[str, Any] = json.loads(line)
            return found
    return None


def logits(service: Service, image: list[float]) -> list[float]:
    """One answer through the gateway: the logits of a digit of 64 grey values."""
    tensor = {"name": "image", "shape": [1, PIXELS], "datatype": "FP32", "data": image}
    body = json.dumps({"inputs": [tensor]}).encode()
    with urlopen(Request(f"{service.gateway}/infer", body), timeout=10) as answer:
        found: list[float] = json.load(answer)["outputs"][0]["data"]
    return found
