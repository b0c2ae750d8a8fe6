"""The plugin's build script: shellcheck is content, it builds the library, and it does not hide what it left out.

Run three times: with headers (the rehearsal double where TensorRT's are not here) it must build a library that g++'s
loader can open; with none it must say SKIPPED and end with `skipped_code`; with a broken kernel it must fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tasks import api
from tasks.checks.plugin_source import STAGE
from tasks.cuda import emulate, toolchain
from tasks.plugins import tensorrt

RUN_S = 300
LIBRARY = "libmy_relu_plugin.so"
SYMBOL = "getPluginRegistry"
SOURCES = (".h", ".cc", ".cu", ".sh")


class Params(api.Params):
    skipped_code: int = 3
    kernels: str = "my_relu_plugin.cu"


def needs(params: Params) -> api.Needs:
    return api.Needs("shellcheck and nvcc", environment="cuda", binaries=(*emulate.BINARIES, "shellcheck"), memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return api.Verdict(False, f"{file.name} is missing or empty")
    linted = subprocess.run(["shellcheck", "--format=gcc", str(file)], capture_output=True, text=True, timeout=60)
    if linted.returncode:
        first = (linted.stdout or linted.stderr).splitlines()[0]
        return api.Verdict(False, f"shellcheck: {first.removeprefix(str(file.parent) + '/')}")
    real = tensorrt.include()
    problem = built(file, real or STAGE, params, work.scratch) or broken(file, params, work.scratch)
    if not problem and not real:
        problem = without(file, params, work.scratch)
    if problem:
        return api.Verdict(False, problem)
    if real:
        return api.Verdict(True, f"builds {LIBRARY} against {real} and ends as it says")
    said = f"builds {LIBRARY} against the rehearsal double, not against TensorRT; the engine test was skipped out loud"
    return api.Verdict(True, f"{said} (exit code {params.skipped_code})")


def run(file: Path, out: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The script with the environment's nvcc first on PATH."""
    nvcc = toolchain.tool("nvcc").parent
    environment = {**os.environ, "PATH": f"{nvcc}{os.pathsep}{os.environ.get('PATH', '')}", **changes}
    argv = ["bash", str(file), str(out)]
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S, env=environment
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"not done within {RUN_S} s")


def built(file: Path, headers: Path, params: Params, scratch: Path) -> str:
    """What is wrong with the run that has headers; empty when nothing is."""
    out = scratch / "built"
    done = run(file, out, TENSORRT_INCLUDE=str(headers))
    if done.returncode not in (0, params.skipped_code):
        return f"it ends with {done.returncode}: {last(done.stderr or done.stdout)}"
    if done.returncode == params.skipped_code and "SKIPPED" not in done.stdout:
        return f"it ends with {params.skipped_code} without saying SKIPPED"
    if done.returncode == 0 and headers == STAGE:
        return "it ends with 0 although there is no TensorRT to test the plugin in"
    if not (out / LIBRARY).is_file():
        return f"it built no {LIBRARY} in the folder that it was given"
    symbols = subprocess.run(["nm", "-D", str(out / LIBRARY)], capture_output=True, text=True, timeout=60).stdout
    lost = [line.split()[-1] for line in symbols.splitlines() if " U " in line and "infra90" in line]
    if lost:
        return f"{LIBRARY} lacks {lost[0]}: the kernels are not linked in"
    return "" if SYMBOL in symbols else f"{LIBRARY} registers nothing: it never calls {SYMBOL}"


def broken(file: Path, params: Params, scratch: Path) -> str:
    """A script that goes on after a compiler error is caught here."""
    folder = scratch / "broken"
    folder.mkdir()
    for one in file.parent.iterdir():
        if one.suffix in SOURCES:
            shutil.copy(one, folder)
    (folder / params.kernels).write_text("this is no CUDA\n", encoding="utf-8")
    code = run(folder / file.name, scratch / "broken-out").returncode
    return f"it ends with {code} although a kernel does not compile" if code in (0, params.skipped_code) else ""


def without(file: Path, params: Params, scratch: Path) -> str:
    """What is wrong with the run that finds no NvInfer.h."""
    done = run(file, scratch / "without")
    if done.returncode != params.skipped_code:
        return f"without TensorRT it ends with {done.returncode}, not {params.skipped_code}: {last(done.stderr)}"
    if not any("SKIPPED" in line and "engine test" in line for line in done.stdout.splitlines()):
        return "without TensorRT it does not say that the engine test was skipped"
    return ""


def last(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
