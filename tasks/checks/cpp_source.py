"""A .cpp file that multiplies matrices: it compiles without a warning, agrees with numpy and says its GFLOPS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import api
from tasks.cuda import host, program

SHAPES = ((70, 67, 33), (1, 1, 1), (96, 200, 300), (13, 64, 257))  # m, n, k: none of them fits every block


class Params(api.Params):
    """`variants` are tried on each shape; `speed_n` is the size whose GFLOPS are reported."""

    variants: list[str]
    max_rel_error: float = 1e-3
    speed_n: int = 512
    least_gflops: float = 0.0


def needs(params: Params) -> api.Needs:
    return api.Needs("g++ and numpy", environment="cuda", binaries=("g++",), memory_gb=0.5)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    evidence: dict[str, Any] = {}
    try:
        built = host.compile_host(file, work.scratch / "build", clean=True)
        for variant in params.variants:
            evidence[variant] = max(worst(built, variant, shape, work) for shape in SHAPES)
            if not evidence[variant] <= params.max_rel_error:
                return api.Verdict(False, f"{variant} differs from numpy by {evidence[variant]:.2g}", evidence)
        evidence["gflops"] = speed = reported(built, params)
    except api.UserError as error:
        return api.Verdict(False, str(error), evidence)
    if speed < params.least_gflops:
        return api.Verdict(False, f"{speed:.3g} GFLOPS, expected at least {params.least_gflops}", evidence)
    return api.Verdict(True, f"equals numpy at {len(SHAPES)} shapes; {speed:.3g} GFLOPS at {params.speed_n}", evidence)


def worst(built: Path, variant: str, shape: tuple[int, int, int], work: api.Workspace) -> float:
    """The largest error of one product of random matrices over sum |a||b|, against numpy in float64."""
    import numpy

    m, n, k = shape
    random = numpy.random.default_rng([work.seed, m, n, k])
    a, b = random.uniform(-1, 1, (m, k)).astype("float32"), random.uniform(-1, 1, (k, n)).astype("float32")
    files = {name: work.scratch / f"{name}.bin" for name in "abc"}
    files["c"].unlink(missing_ok=True)
    a.tofile(files["a"])
    b.tofile(files["b"])
    sizes = ["--m", str(m), "--n", str(n), "--k", str(k)]
    paths = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    program.run(built, ["--variant", variant, *sizes, *paths, "--repeats", "1", "--warmup", "0"], timeout_s=60)
    if not files["c"].is_file() or files["c"].stat().st_size != 4 * m * n:
        raise api.UserError(f"--c holds no {m} x {n} floats", where=" ".join([built.name, *sizes]))
    c = numpy.fromfile(files["c"], "float32").reshape(m, n)
    exact = a.astype("float64") @ b
    error = numpy.abs(c - exact) / (numpy.abs(a).astype("float64") @ numpy.abs(b))
    return float(numpy.nan_to_num(error, nan=numpy.inf).max())


def reported(built: Path, params: Params) -> float:
    """The GFLOPS that the program prints; UserError when they are not flops over its own median time."""
    from tasks.services import timing

    line = program.run(built, ["--n", str(params.speed_n), "--repeats", "5"], timeout_s=120)[0]
    expected = 2 * params.speed_n**3 / timing.spread(line["samples_us"]).p50 / 1e3
    said = float(line.get("gflops", 0))
    if not 0.99 * expected <= said <= 1.01 * expected:
        raise api.UserError(f"says {said:.4g} GFLOPS, its own times give {expected:.4g}", where=built.name)
    return said
