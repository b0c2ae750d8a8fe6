"""LMDeploy's API server. Needs an NVIDIA GPU and its wheel."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tasks.services import process
from tasks.services.llm import endpoint
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import Setup


@contextmanager
def serve(model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print) -> Iterator[Endpoint]:
    """Serve until the block ends, with the TurboMind engine where it knows the model and PyTorch's where not."""
    folder.mkdir(parents=True, exist_ok=True)
    with endpoint.on_free_port(
        "lmdeploy serve", partial(argv, model, setup), setup.name or model.name, log=folder / "lmdeploy.log",
        cwd=folder, env={"HF_HUB_OFFLINE": "1"},
    ) as server:  # fmt: skip
        say(f"LMDeploy serves {server.model} on {server.address}")
        yield server


def argv(model: Path, setup: Setup, port: int) -> list[str]:
    line = [str(setup.python or sys.executable), "-m", "lmdeploy", "serve", "api_server", str(model)]
    line += ["--server-name", process.LOOPBACK, "--server-port", str(port), "--model-name", setup.name or model.name]
    return [*line, "--session-len", str(setup.max_model_len), "--max-batch-size", str(setup.max_batch)]
