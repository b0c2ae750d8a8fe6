"""The kind `llm_profile`: which operators or kernels an LLM's prefill and decode spend their time in.

Native: Nsight Systems around vLLM on a GPU. Everywhere else vLLM's own torch profiler, whose traces any viewer of
Chrome traces opens. A wide model with random weights stands for the small trained one, see `tasks.llm.twin`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.llm import operators, pace, room
from tasks.llm.operators import Operator
from tasks.llm.twin import Shape, stands_for
from tasks.services.process import tail

TIMEOUT_S = 400.0
NSYS = (
    *("nsys", "profile", "--trace=cuda,nvtx", "--cuda-graph-trace=node", "--capture-range=cudaProfilerApi"),
    *("--capture-range-end=stop", "--force-overwrite=true"),
)
STATS = ("nsys", "stats", "--report", "cuda_gpu_kern_sum", "--format", "csv", "--force-export=true")

METRICS: Mapping[str, str] = {
    "operators_count": "different operators (CPU) or kernels (GPU) in the capture",
    "operator_time_ms": "time that all of them spent themselves",
    "top_share_pct": "share of the one that took most, in percent",
    **{f"{family}_share_pct": f"share of {family} in that time, in percent" for family in operators.FAMILIES},
    "other_share_pct": "share of everything else in that time, in percent",
    "calls_per_token": "operators or kernels started for each generated token",
    "phase_ms": "wall time of the captured load, with the profiler running",
}


class Load(api.Params):
    """What is captured: `sequences` prompts of `prompt_tokens` at once, `output_tokens` for each."""

    sequences: int = Field(ge=1)
    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)


class Params(api.Params):
    """A decode needs a prompt: one of 8 tokens, read in one of its 24 passes."""

    prefill: Load = Load(sequences=4, prompt_tokens=256, output_tokens=1)
    decode: Load = Load(sequences=4, prompt_tokens=8, output_tokens=24)
    twin: Shape = Shape()


class Point(api.Params):
    phase: Literal["prefill", "decode"] = "prefill"


def needs(params: Params) -> Sequence[api.Needs]:
    nsight = api.Needs(
        backend="Nsight Systems", environment="serving", binaries=("nsys",), gpus=1, memory_gb=8,
        settings=("model",),
    )  # fmt: skip
    torch = api.Needs(
        backend="vLLM torch profiler", stand_in_for="Nsight Systems", environment="serving", memory_gb=4,
        settings=("model",),
    )  # fmt: skip
    return [nsight, torch]


def run(params: Params, ctx: api.Context) -> None:
    longest = max(load.prompt_tokens + load.output_tokens for load in (params.prefill, params.decode))
    folder = stands_for(room.home(ctx, longest, gpu=pace.on_gpu()), params.twin, ctx.seed)
    nsight, phases = ctx.backend == "Nsight Systems", [point.phase for point in ctx.points]
    captures = [[phase] for phase in phases] if nsight else [phases]  # Nsight Systems writes one range for each start
    for names in captures:
        work = ctx.scratch / "-".join(names)
        found = captured(plan(params, names, folder, work, nsight=nsight), work, nsight=nsight)
        for point in (point for point in ctx.points if point.phase in names):
            seen = of_phase(work, point.phase, nsight=nsight)
            operators.write(seen, ctx.out / f"operators-{point.phase}.csv")
            ctx.record(point, figures(seen, found[point.phase]), note=f"first: {seen[0].name}")


def plan(params: Params, phases: Sequence[str], model: Path, work: Path, *, nsight: bool) -> dict[str, Any]:
    """What `tasks.llm.profile_child` is told."""
    loads = {"prefill": params.prefill, "decode": params.decode}
    longest = max(load.prompt_tokens + load.output_tokens for load in loads.values())
    return {
        "model": str(model), "folder": str(work.resolve()), "profiler": "cuda" if nsight else "torch",
        "eager": not pace.on_gpu(), "max_model_len": longest + 1,
        "max_num_seqs": max(load.sequences for load in loads.values()),
        "phases": [{"name": name, **loads[name].model_dump()} for name in phases],
    }  # fmt: skip


def captured(plan: Mapping[str, Any], work: Path, *, nsight: bool) -> dict[str, dict[str, float]]:
    """Run the load under the profiler; the seconds and tokens of each phase. UserError with the log when it fails."""
    work.mkdir(parents=True, exist_ok=True)
    file, log = work / "plan.json", work / "profile.log"
    file.write_text(json.dumps(plan), encoding="utf-8")
    argv = command(file, work / "report", nsight=nsight)
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    try:
        with log.open("wb") as out:
            done = subprocess.run(
                argv, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **quiet}, timeout=TIMEOUT_S, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise api.UserError(
            f"the profiled engine was not done after {TIMEOUT_S:.0f} s:\n{tail(log)}", where=argv[0]
        ) from error
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = next((line for line in reversed(lines) if line.startswith('{"')), "")
    if done.returncode or not said:
        raise api.UserError(f"the profiled engine ended with {done.returncode}:\n{tail(log)}", where=argv[0])
    found: dict[str, dict[str, float]] = json.loads(said)
    return found


def command(plan: Path, report: Path, *, nsight: bool) -> list[str]:
    """The load's command line, under `nsys profile` when `nsight`."""
    child = [sys.executable, "-m", "tasks.llm.profile_child", str(plan)]
    return [*NSYS, f"--output={report}", *child] if nsight else child


def of_phase(work: Path, phase: str, *, nsight: bool) -> list[Operator]:
    """The operators of a phase's capture: of the worker's trace, the one that holds most operators."""
    if nsight:
        argv = [*STATS, str(work / "report.nsys-rep")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise api.UserError(f"nsys stats failed: {(done.stderr or done.stdout).strip()[-400:]}", where=argv[-1])
        return operators.of_nsys(done.stdout)
    traces = sorted(work.glob(f"{phase}*.json*"), key=lambda file: -file.stat().st_size)
    if not traces:
        raise api.UserError(f"vLLM wrote no trace of {phase}", where=str(work))
    return operators.of_trace(traces[0])


def figures(seen: Sequence[Operator], load: Mapping[str, float]) -> dict[str, float]:
    whole = sum(operator.self_ms for operator in seen)
    shares = {f"{family}_share_pct": share for family, share in operators.shares_pct(seen).items()}
    return {
        "operators_count": len(seen), "operator_time_ms": whole, "top_share_pct": 100 * seen[0].self_ms / whole,
        "calls_per_token": sum(operator.calls for operator in seen) / load["tokens"],
        "phase_ms": 1000 * load["seconds"], **shares,
    }  # fmt: skip
