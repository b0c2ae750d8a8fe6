"""Builds a TensorRT-LLM engine with its LLM API, in a process of its own: the GPU is free again when it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.api import UserError
from tasks.services.llm.jobs import Setup

LIMIT_S = 1800
PROGRAM = """
import sys
from tensorrt_llm import BuildConfig
from tensorrt_llm._tensorrt_engine import LLM
from tensorrt_llm.llmapi import QuantAlgo, QuantConfig

model, target, precision, batch, length = sys.argv[1:]
limits = BuildConfig(max_batch_size=int(batch), max_seq_len=int(length), max_input_len=int(length))
fp8 = precision == "fp8"
LLM(
    model=model, dtype="bfloat16" if fp8 else precision, build_config=limits,
    quant_config=QuantConfig(quant_algo=QuantAlgo.FP8) if fp8 else None,
).save(target)
"""


def build(model: Path, setup: Setup, target: Path) -> None:
    """Write the engine to `target` with the limits of `setup`. UserError with TensorRT-LLM's own words."""
    line = [str(setup.python or sys.executable), "-c", PROGRAM]
    done = subprocess.run(
        [*line, *words(model, setup, target)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise UserError(f"the engine was not built:\n{said}", where="tensorrt_llm", remedy="see the first error above")


def words(model: Path, setup: Setup, target: Path) -> list[str]:
    return [str(model), str(target), setup.dtype or "bfloat16", str(setup.max_batch), str(setup.max_model_len)]
