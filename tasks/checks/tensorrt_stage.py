"""Scripts that use TensorRT, on a machine without it: how they refuse, and a rehearsal that records their calls.

The stage (`tensorrt_rehearsal/`) has TensorRT's API, notes the calls and lets ONNX Runtime compute. A rehearsal proves
what a script asks for and writes, not what it measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STAGE = Path(__file__).with_name("tensorrt_rehearsal")
TIMEOUT_S = 120
BLOCK = "raise ImportError('no TensorRT for this check')\n"


def environment(log: Path) -> dict[str, str]:
    """What puts a script on the stage; its calls are noted in `log`."""
    return {"PYTHONPATH": str(STAGE), "TENSORRT_REHEARSAL_LOG": str(log)}


def calls(log: Path, name: str) -> list[dict[str, Any]]:
    """The calls of that name, in order."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [call for line in lines if (call := json.loads(line))["call"] == name]


def plan_file(model: bytes, profile: Mapping[str, Sequence[Sequence[int]]]) -> bytes:
    """An engine of the stage, as its builder would serialize it: an ONNX model and the shapes of one profile."""
    told = {"profiles": [profile], "workspace": -1, "sources": -1, "detailed": True, "hardware_compat": 0}
    return json.dumps(told).encode() + b"\n" + model


def without_tensorrt(file: Path, scratch: Path, arguments: Sequence[str]) -> str:
    """What is wrong with how the script ends where TensorRT cannot be imported; empty when nothing is."""
    hidden = scratch / "hidden"
    hidden.mkdir()
    (hidden / "tensorrt.py").write_text(BLOCK, encoding="utf-8")
    done = execute(file, arguments, {"PYTHONPATH": str(hidden)})
    if done.returncode == 0:
        return "without TensorRT it ends with status 0, as if it had measured something"
    if "Traceback" in done.stderr or "SyntaxError" in done.stderr:
        return f"without TensorRT it fails with a traceback: {last_line(done.stderr)}"
    if "tensorrt" not in (done.stderr + done.stdout).lower():
        return "without TensorRT its message does not say that TensorRT is missing"
    return ""


def execute(file: Path, arguments: Sequence[str], changes: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(file), *arguments]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **changes}
    try:
        return subprocess.run(
            argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"not done within {TIMEOUT_S} s")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def has_tensorrt() -> bool:
    """Whether TensorRT and a GPU are really there (asked of a child: a failed import may leave things half-loaded)."""
    probe = "import tensorrt, torch; raise SystemExit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0
