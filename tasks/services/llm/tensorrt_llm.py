"""TensorRT-LLM: an engine built by its LLM API, served by `trtllm-serve`. Needs an NVIDIA GPU and its wheel."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.api import UserError
from tasks.services import process
from tasks.services.llm import endpoint
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import Setup

MODULE = "tensorrt_llm"
ATTEMPTS = 2


@contextmanager
def serve(model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print) -> Iterator[Endpoint]:
    """Serve a Hugging Face folder or a built engine until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    name = setup.name or model.name
    with ExitStack() as stack:
        for left in reversed(range(ATTEMPTS)):
            port = process.free_port()
            started = endpoint.serve(
                "trtllm-serve", argv(model, setup, port), port, name, log=folder / "trtllm.log", cwd=folder,
                env={"HF_HUB_OFFLINE": "1"}, timeout_s=600,
            )  # fmt: skip
            try:
                server = stack.enter_context(started)
                break
            except UserError as error:
                if not left or "likely cause: port" not in error.what:
                    raise
        say(f"TensorRT-LLM serves {name} on {server.address}")
        yield server


def argv(model: Path, setup: Setup, port: int) -> list[str]:
    """`trtllm-serve` as a module, so that it is the one of this environment. The model is served under `name`."""
    line = [str(setup.python or sys.executable), "-m", f"{MODULE}.commands.serve", "serve", str(model)]
    line += ["--host", process.LOOPBACK, "--port", str(port), "--max_batch_size", str(setup.max_batch)]
    line += ["--max_seq_len", str(setup.max_model_len)]
    return [*line, "--served_model_name", setup.name] if setup.name else line
