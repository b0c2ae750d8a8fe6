"""Compile CUDA C++ with nvcc: the one on PATH, else the one of this environment (nvidia-cuda-nvcc, no GPU needed)."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.api import UserError
from tasks.cuda import ptxas

COMPILE_S = 300
SYSTEM = "/usr/local/cuda/bin"  # where NVIDIA's packages install, often without being on PATH
ERROR = re.compile(  # nvcc: f.cu(3): error: …; g++: f.cu:3:5: error: …
    r"^(?P<file>[^\s(:]+)(?:\((?P<nvcc>\d+)\)|:(?P<gcc>\d+)(?::\d+)?):?"
    r"\s*(?:fatal |catastrophic )?error\s*:\s*(?P<what>.+)"
)
OTHER = re.compile(
    r"^ptxas (?:error|fatal)\s*:\s*(?P<ptxas>.+)$|^.*?(?P<linker>undefined reference to.*|cannot find -l.*)$"
)


@dataclass(frozen=True)
class Build:
    """What to compile and how: `arch` "sm_90", `defines` as -DNAME=value, `flags` for nvcc as they are."""

    source: Path
    arch: str = "sm_90"
    defines: Mapping[str, str | int] | None = None
    flags: Sequence[str] = ()

    def options(self) -> list[str]:
        return ["-std=c++17", "-O3", f"-arch={self.arch}", "-lineinfo",
                *(f"-D{name}={value}" for name, value in (self.defines or {}).items()), *self.flags]  # fmt: skip


@dataclass(frozen=True)
class Compiled:
    """A file that nvcc made (an executable, a cubin or PTX), and what ptxas reported of each kernel in it."""

    file: Path
    arch: str
    kernels: tuple[ptxas.Usage, ...]
    compiler: str  # "nvcc 13.0.88"

    def kernel(self, name: str = "") -> ptxas.Usage:
        """The kernel called `name` (template arguments may be left out); without a name the only one."""
        return ptxas.pick(self.kernels, name)


def executable(build: Build, work: Path) -> Compiled:
    """A program for the GPU and this machine. UserError with file and line when it does not compile."""
    return _nvcc(build, work, "", ["-Xptxas", "-v"])


def cubin(build: Build, work: Path) -> Compiled:
    """Only the GPU's machine code, for its resources and SASS."""
    return _nvcc(build, work, ".cubin", ["-cubin", "-Xptxas", "-v"])


def ptx(build: Build, work: Path) -> str:
    """The PTX text, before ptxas."""
    return _nvcc(build, work, ".ptx", ["-ptx"]).file.read_text(encoding="utf-8")


def tool(name: str) -> Path:
    """nvcc, cuobjdump, nvdisasm …: on PATH, in /usr/local/cuda, else in this environment's packages."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), SYSTEM]))
    if found:
        return Path(found)
    own = next((place / "bin" / name for place in _packages() if (place / "bin" / name).is_file()), None)
    if own is None:
        raise UserError(f"{name} is not here", remedy=f"pip install nvidia-cuda-{name} nvidia-nvvm nvidia-cuda-crt")
    return own


def _packages() -> list[Path]:
    """Where the nvidia-cuda-* wheels unpack: site-packages/nvidia/cu13."""
    spec = importlib.util.find_spec("nvidia")
    return sorted(
        p for place in (spec.submodule_search_locations or () if spec else ()) for p in Path(place).glob("cu*")
    )


@functools.cache
def version() -> str:
    """The compiler as a record names it: "nvcc 13.0.88"."""
    said = subprocess.run([str(tool("nvcc")), "--version"], capture_output=True, text=True, timeout=30).stdout
    found = re.search(r"V(\d+\.\d+\.\d+)", said)
    return f"nvcc {found[1] if found else 'of unknown version'}"


def _nvcc(build: Build, work: Path, suffix: str, extra: Sequence[str]) -> Compiled:
    if not build.source.is_file() or not build.source.stat().st_size:
        raise UserError("the file is missing or empty", where=build.source.name)
    work.mkdir(parents=True, exist_ok=True)
    number = len(list(work.iterdir()))  # one build never overwrites another's file
    out = work / f"{build.source.stem}-{number}{suffix or '.bin'}"
    argv = [str(tool("nvcc")), *build.options(), *extra, str(build.source), "-o", str(out)]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_S)
    except subprocess.TimeoutExpired:
        raise UserError(f"nvcc took more than {COMPILE_S} s", where=build.source.name) from None
    if done.returncode:
        raise complaint(done.stderr + done.stdout, build.source.name)
    return Compiled(out, build.arch, ptxas.read(done.stderr + done.stdout), version())


def complaint(said: str, source: str) -> UserError:
    """The first error of nvcc, the host compiler, ptxas or the linker, with its file and line."""
    for line in said.splitlines():
        if found := ERROR.match(line):
            return UserError(found["what"], where=f"{Path(found['file']).name}:{found['nvcc'] or found['gcc']}")
        if found := OTHER.match(line):
            return UserError(found["ptxas"] or found["linker"], where=source)
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return UserError(lines[-1] if lines else "nvcc failed without a word", where=source)
