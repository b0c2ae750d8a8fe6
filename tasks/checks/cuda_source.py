"""A .cu file: nvcc compiles it, its kernels use what they must, it computes rightly and notices when it does not.

On a GPU it runs there, under compute-sanitizer too; without one its kernels run on the CPU (tasks.cuda.emulate), where
accesses outside the arrays, races and differing barriers are errors. Then a kernel that returns at once is put in: a
program that still says "correct" does not check its results.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.cuda import device, emulate, program, sanitizer, toolchain
from tasks.cuda.ptxas import Usage

SHORT = ("--repeats", "1", "--warmup", "0")  # an emulated run proves results, its times mean nothing
ENTRY = re.compile(r"__global__[^;{]*\)\s*\{")


class Params(api.Params):
    """`cases` are argument lists; each JSON line must have `fields` and say that it is correct."""

    arch: str = "sm_90"
    kernels: list[str] = Field(default_factory=list)  # that must be there
    smem: list[str] = Field(default_factory=list)  # that must use shared memory
    defines: list[dict[str, int | str]] = Field(default=[{}])  # each is compiled and run: [{TILE: 16}, {TILE: 32}]
    cases: list[list[str]] = Field(default_factory=list)
    gpu_cases: list[list[str]] = Field(default_factory=list)  # too large to emulate
    lines: list[int] = Field(default_factory=list)  # how many measurements each case prints, where that is known
    fields: list[str] = Field(default=["kernel", "samples_us", "correct"])
    max_rel_error: float = 1e-3
    memcheck: list[str] = Field(default_factory=list)  # arguments for compute-sanitizer, on a GPU
    racecheck: list[str] = Field(default_factory=list)


def needs(params: Params) -> api.Needs:
    return api.Needs("nvcc", environment="cuda", binaries=emulate.BINARIES, memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    gpu = present()
    evidence: dict[str, Any] = {"compiler": "", "ran_on": gpu.name if gpu else "CPU, emulated", "lines": 0}
    try:
        for number, defines in enumerate(params.defines):
            runner = Runner(
                file, work.scratch / str(number), defines, gpu.arch if gpu else params.arch, gpu is not None
            )
            evidence["compiler"] = runner.compiled.compiler
            evidence[f"ptxas {defines or ''}".strip()] = resources(runner.compiled.kernels, params)
            evidence["lines"] += sum(examined(runner, params))
        if gpu and shutil.which("compute-sanitizer"):
            sanitized(runner, params)
        if params.cases:
            sabotaged(file, params, work.scratch, gpu is not None)
    except api.UserError as error:
        return api.Verdict(False, str(error), evidence)
    return api.Verdict(True, f"{evidence['lines']} results are right ({evidence['ran_on']})", evidence)


def present() -> device.Gpu | None:
    try:
        return device.first()
    except api.UserError:
        return None


class Runner:
    """One way of compiling the file, for the GPU here or for the emulation."""

    def __init__(self, file: Path, work: Path, defines: Mapping[str, int | str], arch: str, on_gpu: bool) -> None:
        self.file, self.work, self.defines, self.on_gpu = file, work, defines, on_gpu
        compiler = toolchain.executable if on_gpu else toolchain.cubin
        self.compiled = compiler(toolchain.Build(file, arch, defines), work / "nvcc")

    def run(self, arguments: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        if self.on_gpu:
            return program.run(self.compiled.file, arguments)
        short = SHORT if "--repeats" in self.file.read_text(encoding="utf-8") else ()
        return emulate.emulate(self.file, self.work / "cpu", [*arguments, *short], defines=self.defines).lines


def resources(kernels: Sequence[Usage], params: Params) -> dict[str, str]:
    """What ptxas says of each kernel. UserError when one is missing or lacks the shared memory it is to have."""
    if not kernels:
        raise api.UserError("the file has no kernel")
    have = {one.name.partition("<")[0]: one for one in kernels}
    for name in {*params.kernels, *params.smem}:
        if name not in have:
            raise api.UserError(f"no kernel '{name}'", remedy=f"the file has: {', '.join(have)}")
    for name in params.smem:
        if not have[name].smem_bytes:
            raise api.UserError(f"kernel '{name}' uses no shared memory: ptxas reports 0 bytes")
    return {one.name: f"{one.registers} registers, {one.smem_bytes} bytes smem" for one in kernels}


def examined(runner: Runner, params: Params) -> list[int]:
    """How many measurements each case gave. UserError at the first that is wrong, missing or incomplete."""
    counts = []
    for case in [*params.cases, *(params.gpu_cases if runner.on_gpu else ())]:
        said = runner.run(case)
        where = " ".join([runner.file.name, *case])
        for line in said:
            if lost := [name for name in params.fields if name not in line]:
                raise api.UserError(f"a line has no {', '.join(lost)}", where=where)
            if not float(line.get("max_rel_error", 0)) <= params.max_rel_error:
                raise api.UserError(f"relative error {line['max_rel_error']}", where=where)
        counts.append(len(said))
    for case, count, expected in zip(params.cases, counts, params.lines, strict=False):
        if count != expected:
            raise api.UserError(f"{count} lines instead of {expected}", where=" ".join([runner.file.name, *case]))
    return counts


def sanitized(runner: Runner, params: Params) -> None:
    tools: dict[sanitizer.Tool, list[str]] = {"memcheck": params.memcheck, "racecheck": params.racecheck}
    for tool, arguments in tools.items():
        if arguments and (report := sanitizer.check(runner.compiled.file, arguments, tool)).errors:
            raise api.UserError(f"{tool}: {report.errors} errors, the first: {report.first}")


def sabotaged(file: Path, params: Params, scratch: Path, on_gpu: bool) -> None:
    """UserError when the program finds nothing wrong although its kernels do nothing."""
    folder = scratch / "sabotaged"
    folder.mkdir()
    broken = folder / file.name
    broken.write_text(
        ENTRY.sub(lambda found: f"{found[0]} return;", file.read_text(encoding="utf-8")), encoding="utf-8"
    )
    runner = Runner(broken, folder / "build", params.defines[0], params.arch, on_gpu)
    try:
        runner.run(params.cases[0])
    except api.UserError:
        return
    raise api.UserError("it says that the result is correct even when its kernels do nothing", where=file.name)
