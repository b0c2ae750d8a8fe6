"""llama.cpp's own server, from the `xllamacpp` wheel, on a GGUF file."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.services.llm import child, gguf_file
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import Setup


@contextmanager
def serve(model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print) -> Iterator[Endpoint]:
    """Convert and serve until the block ends, with `max_batch` slots of `max_model_len` tokens each."""
    with child.serve("llama_cpp", model, setup, folder, say) as server:
        yield server


def run(model: Path, setup: Setup, port: int, _mode: str) -> None:
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(gguf_file.obtain(model, setup.dtype or "bfloat16", setup.cache))
    options.model_alias = {setup.name or model.name}
    options.n_parallel, options.n_ctx = setup.max_batch, setup.max_model_len * setup.max_batch
    options.port, options.endpoint_metrics, options.ui = port, True, False
    options.n_gpu_layers = -1 if setup.gpu else 0
    if setup.threads:
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = setup.threads
    server = xllamacpp.Server(options)
    print(f"llama.cpp listens on {server.listening_address}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.pause()
