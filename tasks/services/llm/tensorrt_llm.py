"""TensorRT-LLM: an engine built by its LLM API, served by `trtllm-serve`. Needs an NVIDIA GPU and its wheel."""

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

MODULE = "tensorrt_llm"


@contextmanager
def serve(model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print) -> Iterator[Endpoint]:
    """Serve a Hugging Face folder or a built engine until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with endpoint.on_free_port(
        "trtllm-serve", partial(argv, model, setup), setup.name or model.name, log=folder / "trtllm.log", cwd=folder,
        env={"HF_HUB_OFFLINE": "1"},
    ) as server:  # fmt: skip
        say(f"TensorRT-LLM serves {server.model} on {server.address}")
        yield server


def argv(model: Path, setup: Setup, port: int) -> list[str]:
    """`trtllm-serve` as a module, so that it is the one of this environment. The model is served under `name`."""
    line = [str(setup.python or sys.executable), "-m", f"{MODULE}.commands.serve", "serve", str(model)]
    line += ["--host", process.LOOPBACK, "--port", str(port), "--max_batch_size", str(setup.max_batch)]
    line += ["--max_seq_len", str(setup.max_model_len)]
    return [*line, "--served_model_name", setup.name] if setup.name else line
