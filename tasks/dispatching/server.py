"""The learner's high_concurrency_demo.py as a service, with the harness's own model behind it, and what it promises."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import burst, process

MODEL = Path(__file__).with_name("network.py")
TOLERANCE = 1e-5
PATTERN = r'"output":\s*(-?[\d.]+(?:e-?\d+)?)'
CONTRACT = (
    "python FILE --port P --model MODEL.py --queue-limit N --batch-limit B --max-delay-ms D serves"
    ' POST /infer {"id": n, "token": t} → {"id": n, "output": infer([t])[0]}, 429 or 503 while its queue is full,'
    " and GET /stats (JSON with queue_length, queue_peak, rejected, accepted, answered)"
)


@dataclass(frozen=True)
class Queue:
    """What the server is told."""

    queue_limit: int
    batch_limit: int
    max_delay_ms: float
    layers: int  # of the model: its processor time


@dataclass(frozen=True)
class Server:
    port: int
    pid: int
    batches: Path  # the model's own log

    def target(self) -> burst.Target:
        return burst.Target(self.port, "/infer", '{"id": {number}, "token": {token}}', PATTERN, tokens())

    def stats(self) -> dict[str, Any]:
        with urlopen(f"http://{process.LOOPBACK}:{self.port}/stats", timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def ask(self, number: int, token: int) -> dict[str, Any]:
        return asked(self.port, number, token)

    def batch_sizes(self) -> list[int]:
        """Of every execution so far, as the model itself counted."""
        return batch_sizes(self.batches)


def batch_sizes(log: Path) -> list[int]:
    return [int(line.split()[0]) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def tokens() -> int:
    from tasks.dispatching import network

    return network.TOKENS


@cache
def expected(layers: int) -> Any:
    """The right number for each token, float32 of shape (tokens,), computed here."""
    import numpy as np

    from tasks.dispatching import network

    made = network.Network()
    made.layers = made.layers[:layers]
    if len(made.layers) < layers:
        raise UserError(f"the model has {len(made.layers)} layers, not {layers}", where="params.layers")
    return made.numbers(np.arange(network.TOKENS))


def asked(port: int, number: int, token: int) -> dict[str, Any]:
    body = json.dumps({"id": number, "token": token}).encode()
    request = Request(f"http://{process.LOOPBACK}:{port}/infer", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def says(answer: Any, number: int, output: float) -> bool:
    """Whether an answer is the one of its request."""
    try:
        return bool(answer["id"] == number and abs(answer["output"] - output) <= TOLERANCE)
    except (KeyError, TypeError):
        return False


@contextmanager
def serve(file: Path, queue: Queue, folder: Path, log: Path) -> Iterator[Server]:
    """Run the file as its contract says until the block ends. Ready: a right answer has come back."""
    if not file.is_file() or not file.read_bytes().strip():
        raise UserError("the file is missing or empty", where=file.name)
    port, batches = process.free_port(), Path(mkdtemp(dir=folder)) / "batches.log"
    argv = [
        sys.executable, str(file), "--port", str(port), "--model", str(MODEL), "--queue-limit", str(queue.queue_limit),
        "--batch-limit", str(queue.batch_limit), "--max-delay-ms", f"{queue.max_delay_ms:g}",
    ]  # fmt: skip
    env = {"BATCH_LOG": str(batches), "NETWORK_LAYERS": str(queue.layers), "OPENBLAS_NUM_THREADS": "1"}
    numbers, first = expected(queue.layers), []

    def ready() -> bool:
        try:
            first.append(asked(port, 1, 3))
        except ValueError as error:
            raise UserError(f"it answers no JSON: {error}", where=file.name, remedy=CONTRACT) from error
        return True

    with process.serve(argv, log=log, ready=ready, env=env, timeout_s=40) as server:
        if not says(first[-1], 1, numbers[3]):
            told = f"asked for token 3 it says {first[-1]}, not {numbers[3]:.6f}"
            raise UserError(told, where=file.name, remedy=CONTRACT)
        yield Server(port, server.pid, batches)
