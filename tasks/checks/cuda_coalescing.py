"""A kernel asks for fewer sectors per request than another one of the day: counted by running both on the CPU."""

from __future__ import annotations

from pathlib import Path

from tasks import api
from tasks.cuda import emulate


class Params(api.Params):
    """Both programs run with `arguments`; loads of global memory are counted."""

    kernel: str
    baseline: str  # file of the same day
    baseline_kernel: str
    arguments: list[str]
    at_most: float = 0.5  # sectors per load request, of the baseline's


def needs(params: Params) -> api.Needs:
    return api.Needs("nvcc's headers and g++", environment="cuda", binaries=emulate.BINARIES, memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    try:
        mine = sectors(file, params.kernel, params, work.scratch)
        other = sectors(work.day / params.baseline, params.baseline_kernel, params, work.scratch)
    except api.UserError as error:
        return api.Verdict(False, str(error))
    evidence = {params.kernel: mine, params.baseline_kernel: other}
    said = f"{mine:.2f} sectors per load request, {params.baseline_kernel} needs {other:.2f}"
    return api.Verdict(mine <= params.at_most * other, said, evidence)


def sectors(file: Path, kernel: str, params: Params, scratch: Path) -> float:
    loads = emulate.emulate(file, scratch / file.stem, params.arguments, trace=True).of(kernel)
    if not loads:
        raise api.UserError(f"no kernel '{kernel}' that loads from global memory was launched", where=file.name)
    return sum(one.sectors for one in loads) / sum(one.requests for one in loads)
