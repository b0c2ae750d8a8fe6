"""The kind `bottleneck_plan`: which resource limits a GEMM kernel, and a written plan of what to do about it.

With a GPU Nsight Compute says how busy the multiprocessors and the memory system are. Without one the compiled kernel
is put into a roofline model: for each multiply-add of a warp the clocks that it needs of each resource, from the SASS
(FP32 pipe, shared memory pipe) and from the sectors that the kernel asks for when it is run on the CPU (L2 path).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.cuda import device, emulate, ncu, occupancy, plan_text, points, sass
from tasks.cuda.source import Source

WARP, SECTOR = 32, 32
SHARED_PER_CLOCK = 1.0  # warp-wide requests of shared memory per multiprocessor and clock: 128 bytes
FP32_PER_CLOCK = 4.0  # warp-wide multiply-adds per multiprocessor and clock: 128 lanes on sm_90
ARCH = "sm_90"
CODES = {"compute": 1.0, "shared memory": 2.0, "global memory": 3.0}


class Params(api.Params):
    """`source` takes `--variant`; `emulated` are the arguments of a small run, sizes in multiples of the tile."""

    source: str
    kernel: str = "mmul_{kernel}"
    block: int = 1024
    flags: list[str] = Field(default_factory=list)
    emulated: list[str]
    profiled: list[str] = Field(default=["--n", "4096", "--repeats", "1", "--warmup", "0"])
    plan: str = "optimization_plan.md"


class Point(api.Params):
    kernel: Literal["naive", "tiled", "double_buffered"] = "naive"

    def axes(self) -> dict[str, points.Value]:
        return {"kernel": self.kernel}


METRICS: Mapping[str, str] = {
    "arithmetic_intensity_flop_per_byte": "operations per byte of device memory (ncu), or of sectors asked for (model)",
    "sm_throughput_pct": "of the multiprocessors' peak (ncu)",
    "memory_throughput_pct": "of the memory system's peak (ncu)",
    "bound_by": "1 compute, 2 shared memory, 3 global memory",
    "ffma_share_pct": "multiply-adds of the kernel's SASS instructions",
    "shared_loads_per_ffma": "LDS over FFMA in the SASS",
    "model_pct_of_peak": "FP32 peak that the model's tightest resource allows",
    "registers_per_thread": "ptxas: registers of one thread",
    "theoretical_occupancy_pct": "warps that fit on a multiprocessor, of the most it can hold",
}
ASKED = ("sm_throughput_pct", "memory_throughput_pct", "dram_bytes", "shared_wavefronts")


@dataclass(frozen=True)
class Model:
    """Clocks of one multiprocessor for one warp-wide multiply-add, for each resource."""

    clocks: Mapping[str, float]

    @property
    def bound_by(self) -> str:
        return max(self.clocks, key=lambda name: self.clocks[name])

    @property
    def pct_of_peak(self) -> float:
        return 100 * self.clocks["compute"] / self.clocks[self.bound_by]


def needs(params: Params) -> Sequence[api.Needs]:
    unmeasured = ("sm_throughput_pct", "memory_throughput_pct")
    return [
        api.Needs("Nsight Compute", environment="cuda", binaries=("g++", "ncu"), gpus=1, memory_gb=4),
        api.Needs("SASS and roofline model", "Nsight Compute", "cuda", binaries=emulate.BINARIES, memory_gb=1,
                  unmeasured=unmeasured),
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    own = points.Params(source=params.source, kernel=params.kernel, block=params.block, flags=params.flags,
                        argv={"kernel": "--variant"}, arguments=params.profiled)  # fmt: skip
    source = Source(own, ctx)
    for point in ctx.points:
        metrics, model = modelled(source, params, point)
        note = ", ".join(f"{name} {clocks:.2f}" for name, clocks in model.clocks.items())
        if ctx.tier == "native":
            metrics |= profiled(source, params, point, model)
        ctx.record(point, metrics, note=f"clocks per warp-wide multiply-add: {note}")
    rows = api.read_rows(ctx.out / "rows.jsonl", ctx.spec)
    (ctx.out / params.plan).write_text(plan_text.written(rows, CODES, ctx.backend), encoding="utf-8")
    ctx.say(f"{params.plan} written")


def modelled(source: Source, params: Params, point: Point) -> tuple[dict[str, float], Model]:
    axes = point.axes()
    compiled = source.cubin(axes)
    usage = compiled.kernel(points.filled(params.kernel, axes))
    code = sass.kernels(compiled.file)[usage.symbol]
    traced = emulate.emulate(
        source.file(axes), source.work / "cpu", [*params.emulated, "--variant", point.kernel], trace=True
    )
    accesses = [one for one in traced.accesses if one.space == "global"]
    moved = sum(one.sectors for one in accesses) * SECTOR
    intensity = float(traced.lines[0]["flops"]) / moved
    per_ffma = code.count("LDS") / code.count("FFMA")
    model = Model({
        "compute": 1 / FP32_PER_CLOCK,
        "shared memory": per_ffma / SHARED_PER_CLOCK,
        "global memory": 2 * WARP / intensity / device.L2_BYTES_PER_CLOCK,
    })  # fmt: skip
    held = occupancy.theoretical(usage.registers, usage.smem_bytes, params.block, ARCH)
    return {
        "arithmetic_intensity_flop_per_byte": intensity,
        "bound_by": CODES[model.bound_by],
        "ffma_share_pct": 100 * code.count("FFMA") / code.total,
        "shared_loads_per_ffma": per_ffma,
        "model_pct_of_peak": model.pct_of_peak,
        "registers_per_thread": usage.registers,
        "theoretical_occupancy_pct": held.pct,
    }, model


def profiled(source: Source, params: Params, point: Point, model: Model) -> dict[str, float]:
    """ncu's figures. Busier memory than multiprocessors means memory-bound; which memory, the model says."""
    axes = point.axes()
    kernel = points.filled(params.kernel, axes)
    found = ncu.profile(source.program(axes).file, source.arguments(axes), kernel, ASKED)
    n = int(params.profiled[params.profiled.index("--n") + 1])
    memory = found["memory_throughput_pct"] > found["sm_throughput_pct"]
    where = "shared memory" if model.clocks["shared memory"] > model.clocks["global memory"] else "global memory"
    return {
        "arithmetic_intensity_flop_per_byte": 2 * n**3 / found["dram_bytes"],
        "sm_throughput_pct": found["sm_throughput_pct"],
        "memory_throughput_pct": found["memory_throughput_pct"],
        "bound_by": CODES[where if memory else "compute"],
    }
