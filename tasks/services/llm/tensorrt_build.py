"""Builds a TensorRT-LLM engine with its LLM API, in a process of its own: the GPU is free again when it ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tasks.services import process
from tasks.services.llm import diagnosis
from tasks.services.llm.diagnosis import NotStartedError
from tasks.services.llm.jobs import Setup

LIMIT_S = 1800
TIME = re.compile(r"^built in ([\d.]+) s$", re.MULTILINE)
PROGRAM = """
import sys
import time
from tensorrt_llm import BuildConfig
from tensorrt_llm._tensorrt_engine import LLM
from tensorrt_llm.llmapi import QuantAlgo, QuantConfig

model, target, precision, batch, length = sys.argv[1:]
limits = BuildConfig(max_batch_size=int(batch), max_seq_len=int(length), max_input_len=int(length))
fp8 = precision == "fp8"
began = time.perf_counter()
engine = LLM(
    model=model, dtype="bfloat16" if fp8 else precision, build_config=limits,
    quant_config=QuantConfig(quant_algo=QuantAlgo.FP8) if fp8 else None,
)
print(f"\\nbuilt in {time.perf_counter() - began:.3f} s", flush=True)
engine.save(target)
"""


def build(model: Path, setup: Setup, target: Path, log: Path) -> float:
    """Write the engine to `target` with the limits of `setup`; seconds of the build itself, without imports.

    NotStartedError with TensorRT-LLM's own words, which all go to `log`.
    """
    line = ["setpriv", "--pdeathsig", "KILL", "--", str(setup.python or sys.executable), "-c", PROGRAM]
    since = log.stat().st_size if log.exists() else 0
    with log.open("ab") as sink:
        try:
            done = subprocess.run(
                [*line, *words(model, setup, target)],
                stdout=sink,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_S,
                check=False,
            )
            ended = f"the build exited with {done.returncode} "
        except subprocess.TimeoutExpired:
            ended = f"the build did not end within {LIMIT_S} s"
    took = TIME.findall(log.read_bytes()[since:].decode(errors="replace"))
    if took and target.exists():
        return float(took[-1])
    found = diagnosis.find(log, ended, since)
    raise NotStartedError(
        found.told(f"the engine was not built: {ended}; its log ends:\n{process.tail(log)}"), where="tensorrt_llm",
        remedy=found.remedy or "see the first error of build.log", brief=found.brief("the engine was not built"),
        cause=found.cause,
    )  # fmt: skip


def words(model: Path, setup: Setup, target: Path) -> list[str]:
    return [str(model), str(target), setup.dtype or "bfloat16", str(setup.max_batch), str(setup.max_model_len)]
