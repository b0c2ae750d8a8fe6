"""A .cu file: nvcc compiles it, its kernels use what they must, it computes rightly and notices when it does not.

On a GPU it runs there, under compute-sanitizer too; without one its kernels run on the CPU (tasks.cuda.emulate), where
accesses outside the arrays, races and differing barriers are errors. Then a kernel that returns at once is put in: a
program that still says "correct" does not check its results.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    return api.Needs(backend="nvcc", environment="cuda", binaries=emulate.BINARIES, memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    gpu = present()
    evidence: dict[str, Any] = {"compiler": "", "ran_on": gpu.name if gpu else "CPU, emulated", "lines": 0}
    try:
        for defines in params.defines:
            runner = Runner(file, work.scratch, defines, gpu, params)
            compiled = runner.compiled()
            evidence["compiler"] = compiled.compiler
            evidence[f"ptxas {defines or ''}".strip()] = resources(compiled.kernels, params)
            evidence["lines"] += sum(examined(runner, params))
        if gpu and shutil.which("compute-sanitizer"):
            sanitized(compiled.file, params)
        if params.cases:
            sabotaged(runner, params)
    except api.UserError as error:
        return api.Verdict(False, str(error), evidence)
    return api.Verdict(True, f"{evidence['lines']} results are right ({evidence['ran_on']})", evidence)


def present() -> device.Gpu | None:
    try:
        return device.first()
    except api.UserError:
        return None


@dataclass(frozen=True)
class Runner:
    """One way of compiling the file, for the GPU here or for the emulation."""

    file: Path
    work: Path
    defines: Mapping[str, int | str]
    gpu: device.Gpu | None
    params: Params

    def compiled(self) -> toolchain.Compiled:
        """By nvcc: a program where there is a GPU, else the machine code alone."""
        arch = self.gpu.arch if self.gpu else self.params.arch
        compiler = toolchain.executable if self.gpu else toolchain.cubin
        return compiler(toolchain.Build(self.file, arch, self.defines), self.work / "nvcc")

    def run(self, cases: Sequence[Sequence[str]]) -> Iterator[Sequence[Mapping[str, Any]]]:
        """The measurements of each case."""
        program_file = self.compiled().file if self.gpu else None
        short = SHORT if "--repeats" in self.file.read_text(encoding="utf-8") else ()
        for case in cases:
            if program_file:
                yield program.run(program_file, case)
            else:
                folder = self.work / "cpu"  # shared: the emulator itself is compiled once
                yield emulate.emulate(self.file, folder, [*case, *short], defines=self.defines).lines


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
    cases = [*params.cases, *(params.gpu_cases if runner.gpu else ())]
    counts = []
    for case, said in zip(cases, runner.run(cases), strict=True):
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


def sanitized(binary: Path, params: Params) -> None:
    tools: dict[sanitizer.Tool, list[str]] = {"memcheck": params.memcheck, "racecheck": params.racecheck}
    for tool, arguments in tools.items():
        if arguments and (report := sanitizer.check(binary, arguments, tool)).errors:
            raise api.UserError(f"{tool}: {report.errors} errors, the first: {report.first}")


def sabotaged(runner: Runner, params: Params) -> None:
    """UserError when the program finds nothing wrong although its kernels do nothing."""
    folder = runner.work / "sabotaged"
    folder.mkdir()
    broken = replace(runner, file=folder / runner.file.name)
    text = ENTRY.sub(lambda found: f"{found[0]} return;", runner.file.read_text(encoding="utf-8"))
    broken.file.write_text(text, encoding="utf-8")
    try:
        next(iter(broken.run(params.cases[:1])))
    except api.UserError:
        return
    raise api.UserError("it says that the result is correct even when its kernels do nothing", where=runner.file.name)
