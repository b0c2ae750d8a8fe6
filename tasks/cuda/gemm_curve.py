"""The kind `gemm_curve`: GEMM on the CPU, in hand-written CUDA (a ladder of kernels) and by cuBLAS, as N grows."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.cuda import device, host, program, toolchain
from tasks.services import timing


class Rung(api.Params):
    """One hand-written kernel. `tensor`: FP16 inputs on Tensor Cores, shown beside the FP32 kernels, not among them."""

    name: str
    source: str
    arguments: list[str] = Field(default_factory=list)
    defines: dict[str, int | str] = Field(default_factory=dict)
    tensor: bool = False


class Params(api.Params):
    """`cpu` is the C++ baseline, `ladder` the CUDA kernels from slow to fast, `cublas` the file whose variant it is."""

    cpu: str = "mmul_cpu.cpp"
    cublas: str = "mmul_gpu_tiled.cu"
    ladder: list[Rung]
    repeats: int = 20
    cpu_repeats: int = 3


class Point(api.Params):
    impl: Literal["cpu", "gpu_tiled", "cublas"] = "cpu"
    n: int = 128


METRICS: Mapping[str, str] = {
    "time_ms": "median time of one product, 10^-3 s",
    "gflops": "2 n^3 floating point operations over the median time, 10^9/s",
    "max_rel_error": "largest error over sum |a||b|, against sums in double",
    "cublas_pct": "gpu_tiled: of cuBLAS's GFLOPS at the same n, in this session",
    "roofline_pct": "of the GPU's FP32 peak at its highest clock",
    **{
        f"{rung}_gflops": f"gpu_tiled: the rung '{rung}' of the ladder at this n, 10^9/s"
        for rung in ("naive", "tile16", "tile32", "tile64", "double_buffered", "fast", "wmma")
    },
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs("CUDA and cuBLAS", environment="cuda", binaries=("g++",), gpus=1, memory_gb=4)]


def run(params: Params, ctx: api.Context) -> None:
    bench = Bench(params, ctx)
    for point in ctx.points:
        found, extra = {"cpu": bench.cpu, "gpu_tiled": bench.gpu_tiled, "cublas": bench.cublas}[point.impl](point.n)
        taken = timing.spread([sample * 1e-3 for sample in found["samples_us"]])
        metrics = {"time_ms": taken.p50, "gflops": gflops(found), "max_rel_error": float(found["max_rel_error"])}
        ctx.record(point, metrics | extra, {"time_ms": taken}, found.get("note", ""))


class Bench:
    """Compiles each program once; `cpu`, `gpu_tiled` and `cublas` measure one n: the program's line, more metrics."""

    def __init__(self, params: Params, ctx: api.Context) -> None:
        self.params, self.day, self.work = params, ctx.day, ctx.scratch / "build"
        self.gpu = device.first()
        self._built: dict[str, Path] = {}
        self._cublas: dict[int, float] = {}

    def cpu(self, n: int) -> tuple[dict[str, Any], dict[str, float]]:
        if "cpu" not in self._built:
            self._built["cpu"] = host.compile_host(self.day / self.params.cpu, self.work)
        found = program.run(self._built["cpu"], ["--n", str(n), "--repeats", str(self.params.cpu_repeats)])
        return found[0], {}

    def gpu_tiled(self, n: int) -> tuple[dict[str, Any], dict[str, float]]:
        """The fastest FP32 kernel of the ladder, and what every rung reaches."""
        lines = {rung.name: self.rung(rung, n) for rung in self.params.ladder}
        extra = {f"{name}_gflops": gflops(line) for name, line in lines.items()}
        plain = [rung.name for rung in self.params.ladder if not rung.tensor]
        best = min(plain, key=lambda name: timing.spread(lines[name]["samples_us"]).p50)
        if n not in self._cublas:
            self.cublas(n)
        extra["cublas_pct"] = 100 * gflops(lines[best]) / self._cublas[n]
        extra["roofline_pct"] = 100 * gflops(lines[best]) / self.gpu.gflops()
        return {**lines[best], "note": f"the fastest FP32 kernel is '{best}'; {self.gpu.name}"}, extra

    def cublas(self, n: int) -> tuple[dict[str, Any], dict[str, float]]:
        if "cublas" not in self._built:
            build = toolchain.Build(
                self.day / self.params.cublas, self.gpu.arch, {"WITH_CUBLAS": 1}, [*cublas_flags(), "-lcublas"]
            )
            self._built["cublas"] = toolchain.executable(build, self.work).file
        found = self.measured(self._built["cublas"], ["--variant", "cublas"], n)
        self._cublas[n] = gflops(found)
        return found, {"roofline_pct": 100 * gflops(found) / self.gpu.gflops()}

    def rung(self, rung: Rung, n: int) -> dict[str, Any]:
        key = f"{rung.source} {sorted(rung.defines.items())}"
        if key not in self._built:
            build = toolchain.Build(self.day / rung.source, self.gpu.arch, rung.defines)
            self._built[key] = toolchain.executable(build, self.work).file
        return self.measured(self._built[key], rung.arguments, n, tensor=rung.tensor)

    def measured(self, built: Path, arguments: Sequence[str], n: int, *, tensor: bool = False) -> dict[str, Any]:
        argv = [*arguments, "--n", str(n), "--repeats", str(self.params.repeats)]
        return program.one(built, argv, self.gpu, tensor=tensor)


def gflops(found: Mapping[str, Any]) -> float:
    return float(found["flops"]) / timing.spread(found["samples_us"]).p50 / 1e3


def cublas_flags() -> list[str]:
    """Where pip put cuBLAS (nvidia-cublas); nothing where the toolkit has its own."""
    spec = importlib.util.find_spec("nvidia")
    for place in spec.submodule_search_locations or () if spec else ():
        for header in Path(place).glob("*/include/cublas_v2.h"):
            lib = header.parents[1] / "lib"
            return [f"-I{header.parent}", f"-L{lib}", "-Xlinker", f"-rpath={lib}"]
    return []
