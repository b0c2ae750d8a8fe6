"""A TensorRT plugin's header or source: it compiles, no class stays abstract, and the plugin lives as TensorRT wants.

Where NvInfer.h is present the file compiles against it too. The life (creator, shapes, fields there and back, frames)
is always rehearsed on `plugin_rehearsal/`, with the kernels emulated on the CPU: that proves the plugin's logic, not
that TensorRT loads it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.cuda import emulate, toolchain
from tasks.plugins import tensorrt

STAGE = Path(__file__).with_name("plugin_rehearsal")
COMPILE_S = 120
KINDS = {"relu": 0, "swish": 1, "mish": 2}


class Params(api.Params):
    """`classes` must not be abstract. With `kernels` (the .cu file) and `header` the plugin's life is rehearsed."""

    classes: list[str] = Field(default_factory=list)
    header: str = ""
    kernels: str = ""
    name: str = "MyReluPlugin"
    version: str = "1"
    kinds: list[str] = Field(default=["relu", "swish", "mish"])


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="g++", environment="cuda", binaries=emulate.BINARIES, memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return api.Verdict(False, f"{file.name} is missing or empty")
    real = tensorrt.include()
    evidence: dict[str, Any] = {"tensorrt_headers": str(real or "not here")}
    try:
        for headers in [STAGE, *([real] if real else [])]:
            compiled(file, params, headers, work.scratch)
        lives = lived(file, params, work.scratch) if params.kernels else []
    except api.UserError as error:
        return api.Verdict(False, str(error), evidence)
    evidence["lives"] = lives
    against = f"TensorRT's headers in {real}" if real else "the rehearsal double, not against TensorRT"
    said = f"compiles against {against}"
    if lives:
        worst = max(float(one["max_abs_error"]) for one in lives)
        said += f"; {len(lives)} plugins rehearsed without TensorRT: fields identical, worst error {worst:.1e}"
    return api.Verdict(True, said, evidence)


def compiled(file: Path, params: Params, headers: Path, scratch: Path) -> None:
    """UserError with file and line at the first error or warning, or when a class lacks a pure virtual method."""
    probe = scratch / "probe.cc"
    concrete = "".join(f'static_assert(!std::is_abstract_v<{one}>, "{one} is abstract");\n' for one in params.classes)
    probe.write_text(f'#include "{file.name}"\n#include <type_traits>\n{concrete}', encoding="utf-8")
    argv = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Werror", "-isystem", str(headers), *emulate.headers(),
            f"-I{file.parent}", str(probe)]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_S)
    if done.returncode:
        raise toolchain.complaint(done.stderr, file.name)


def lived(file: Path, params: Params, scratch: Path) -> list[dict[str, Any]]:
    """One line for each kind with and without cache. The plugin's sources become one program with `lifecycle.cc`."""
    folder = scratch / "life"
    folder.mkdir()
    for name in (file.name, params.header):
        if not (file.parent / name).is_file():
            raise api.UserError(f"{name} is not beside it", where=file.name)
        shutil.copy(file.parent / name, folder / name)
    shutil.copy(STAGE / "NvInfer.h", folder)
    kernels = file.parent / params.kernels
    if not kernels.is_file():
        raise api.UserError(f"{kernels.name} is not beside it", where=file.name)
    kinds = ", ".join(str(KINDS[kind]) for kind in params.kinds)
    program = folder / kernels.name  # faults in a kernel are then told with its own name and line
    program.write_text(
        f'#include <NvInfer.h>\n#line 1 "{kernels.name}"\n{kernels.read_text(encoding="utf-8")}\n'
        f'#include "{file.name}"\n#define PLUGIN_NAME "{params.name}"\n#define PLUGIN_VERSION "{params.version}"\n'
        f'#define PLUGIN_KINDS {kinds}\n#line 1 "lifecycle.cc"\n'
        + (STAGE / "lifecycle.cc").read_text(encoding="utf-8"),
        encoding="utf-8",
    )
    try:
        return [dict(one) for one in emulate.emulate(program, folder / "built", []).lines]
    except api.UserError as error:
        if error.where == program.name:  # of no line of a kernel: something in the plugin's life
            raise api.UserError(error.what, where=file.name) from None
        raise
