"""The learner's client_infer.py: run as a program, as its user would, or loaded for its class `Client`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.services import program

TIMEOUT_S = 60
CONTRACT = (
    "Client(protocol, url, model, *, redis_url=None, ttl_s=60.0) with infer(images) -> logits and close(); "
    "as a program: --protocol http|grpc --url HOST:PORT --model NAME --input x.npy --output y.npy"
)


@dataclass(frozen=True)
class Answer:
    """How the program ended: its exit status, the array it wrote (None: none) and the end of what it said."""

    status: int
    array: Any
    said: str


def ask(file: Path, protocol: Literal["http", "grpc"], url: str, model: str, images: Any, scratch: Path) -> Answer:
    """Run the program on `images`."""
    import numpy

    source, target = scratch / "client-input.npy", scratch / "client-output.npy"
    numpy.save(source, images)
    target.unlink(missing_ok=True)
    argv = [sys.executable, str(file), "--protocol", protocol, "--url", url, "--model", model]
    argv += ["--input", str(source), "--output", str(target)]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Answer(-1, None, f"it did not end within {TIMEOUT_S} s")
    said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
    return Answer(done.returncode, read(target), said)


def read(file: Path) -> Any:
    """The array of an .npy file, None when there is none to read."""
    import numpy

    try:
        return numpy.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def load(file: Path) -> Any:
    """The class `Client` of the file. UserError when the file cannot give it."""
    return program.load(file, ["Client"], CONTRACT).Client
