"""Days 10 and 11: the emulation finds what a GPU's tools would, the GEMM kinds say what they can without a GPU."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import environments
from tasks import api
from tasks.api import UserError
from tasks.cuda import bottleneck, device, emulate, gemm_curve, host, plan_text, program, toolchain

ROOT = Path(__file__).parents[2]
WEEK = ROOT / "plans/week02"
SMALL = ["--m", "67", "--n", "70", "--k", "33", "--repeats", "1", "--warmup", "0"]
H100 = device.Gpu("H100", 1_980_000, 132, 2_619_000, 5120, 50 << 20, 9, 0, 80 << 30)
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """nvcc and its headers for what runs in the tests' own process: those of the environment cuda if need be."""
    if not shutil.which("nvcc"):
        python = environments.provision(ROOT, "cuda", "managed", print)
        [folder] = python.parents[1].glob("lib/python*/site-packages/nvidia/cu*/bin")
        monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{folder}")


def stanza(day: str, experiment: str) -> dict[str, Any]:
    plan = yaml.safe_load((WEEK / day / "day.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = plan["experiments"][experiment]
    return found


def measured(run_kind: RunKind, day: str, experiment: str, points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stanza of the plan at these points, on the last of its backends."""
    told = stanza(day, experiment)
    rows, _ = run_kind(told["kind"], told["params"], points, {name: WEEK / day / name for name in told["uses"]})
    return rows


def broken(tmp_path: Path, source: str, *changes: tuple[str, str]) -> Path:
    """A copy of day 11's file with these replacements, each of which must be there once."""
    text = (WEEK / "day11" / source).read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (tmp_path / source).write_text(text, encoding="utf-8")
    return tmp_path / source


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_the_fast_kernel_is_right_where_nothing_fits_and_meets_no_bank_conflict(tmp_path: Path) -> None:
    for shape in (SMALL, ["--m", "130", "--n", "132", "--k", "20", *SMALL[-4:]]):
        found = emulate.emulate(WEEK / "day11/sgemm_fast.cu", tmp_path, shape, trace=True)
        assert found.lines[0]["max_rel_error"] < 1e-6
        shared = [one for one in found.accesses if one.space == "shared"]
        assert shared
        assert all(one.worst_ways == 1 for one in shared if one.size in (4, 16) and not one.store)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("day10/wmma_gemm.cu", ["--variant", "wmma", *SMALL]),
        ("day11/half_accumulate.cu", ["--variant", "fp16", *SMALL]),
        ("day10/branch_forms.cu", ["--variant", "selp", "--n", "1000", *SMALL[-4:]]),
    ],
)
def test_what_is_blocked_here_is_still_computed_rightly(tmp_path: Path, source: str, arguments: list[str]) -> None:
    [line] = emulate.emulate(WEEK / source, tmp_path, arguments).lines
    assert line["correct"]
    assert line["variant"] == arguments[1]


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("variant", "old", "new", "says"),
    [
        ("tiled", "        __syncthreads();  // the tiles are there\n", "", "no barrier between"),
        ("tiled", "        __syncthreads();  // nobody needs them any more\n", "", "no barrier between"),
        ("double_buffered", "        __pipeline_wait_prior(0);  // my own copies into buffers[now]\n", "", "emulated"),
        ("tiled", "tiles.b[t][lane_col + x * kLanes];", "tiles.b[t][lane_col + x];", "emulated"),
    ],
)
def test_a_mistake_in_a_kernel_is_found_without_a_gpu(
    tmp_path: Path, variant: str, old: str, new: str, says: str
) -> None:
    file = broken(tmp_path, "mmul_gpu_tiled.cu", (old, new))
    with pytest.raises(UserError, match=says):
        emulate.emulate(file, tmp_path / "work", ["--variant", variant, *SMALL], defines={"TILE": 64})


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_an_access_past_the_end_names_thread_and_line(tmp_path: Path) -> None:
    guard = "if (row < s.m && col < s.n) c[size_t(row) * s.n + col] = sum[y][x];"
    file = broken(tmp_path, "mmul_gpu_tiled.cu", (guard, "c[size_t(row) * s.n + col] = sum[y][x];"))
    line = 1 + file.read_text(encoding="utf-8").splitlines().index(
        "            c[size_t(row) * s.n + col] = sum[y][x];"
    )
    with pytest.raises(UserError, match=rf"mmul_gpu_tiled.cu:{line}: thread .* past the end of an allocation"):
        emulate.emulate(file, tmp_path / "work", ["--variant", "tiled", *SMALL])


@pytest.mark.slow
def test_registers_spill_when_they_are_limited_and_16_is_no_limit(run_kind: RunKind) -> None:
    points = [{"maxrregcount": limit} for limit in ("none", 16)]
    free, least = (row["metrics"] for row in measured(run_kind, "day10", "maxrregcount-spills", points))
    assert free["spill_bytes"] == 0 < least["spill_bytes"]
    assert least["registers_per_thread"] > 16
    assert "kernel_us" not in free


@pytest.mark.slow
def test_soa_takes_four_sectors_and_aos_a_sector_per_lane(run_kind: RunKind) -> None:
    aos, soa = (
        row["metrics"] for row in measured(run_kind, "day10", "aos-vs-soa", [{"layout": "aos"}, {"layout": "soa"}])
    )
    assert aos == {"sectors_per_warp": pytest.approx((4 * 32 + 4) / 5), "load_efficiency_pct": pytest.approx(12.5)}
    assert soa == {"sectors_per_warp": pytest.approx(4), "load_efficiency_pct": pytest.approx(100)}


@pytest.mark.slow
def test_tiles_of_64_keep_within_a_block_and_need_their_registers(run_kind: RunKind) -> None:
    [row] = measured(run_kind, "day11", "tile-16-32-64", [{"tile": 64}])
    assert row["metrics"]["theoretical_occupancy_pct"] == 50
    assert "block of 256" in row["note"]


@pytest.mark.slow
def test_fp16_sums_lose_what_fp32_sums_keep(run_kind: RunKind) -> None:
    points = [{"accumulate": kind, "n": 256} for kind in ("fp16", "fp32")]
    half, full = (row["metrics"] for row in measured(run_kind, "day11", "fp16-accumulate-fp32", points))
    assert 1e-4 < half["max_rel_error"] < 1e-2
    assert full["max_rel_error"] < 1e-6
    assert "gflops" not in half


@pytest.mark.slow
def test_the_plan_names_the_limit_of_each_kernel(run_kind: RunKind, tmp_path: Path) -> None:
    points = [{"kernel": "naive"}, {"kernel": "tiled"}]
    naive, tiled = (row["metrics"] for row in measured(run_kind, "day11", "nsight-bottleneck-plan", points))
    assert naive["bound_by"] == bottleneck.CODES["global memory"]
    assert tiled["bound_by"] == bottleneck.CODES["shared memory"]
    [plan] = (tmp_path / "out").glob("*.md")
    text = plan.read_text(encoding="utf-8")
    assert f"| tiled | {tiled['arithmetic_intensity_flop_per_byte']:.4g} |" in text
    assert "## naive: global memory" in text


def test_a_metric_that_was_not_measured_is_a_dash_in_the_plan() -> None:
    row = {"point": {"kernel": "naive"}, "metrics": {"bound_by": 1.0, "sm_throughput_pct": 61.5}}
    text = plan_text.written([row], bottleneck.CODES, "Nsight Compute")
    assert "| naive | – | – | – | – | 61.5 | – | compute |" in text


def test_what_only_a_gpu_can_do_asks_for_one() -> None:
    params = gemm_curve.Params.model_validate(stanza("day11", "cpu-gpu-cublas-curve")["params"])
    assert [one.gpus for one in gemm_curve.needs(params)] == [1]


def test_the_ladder_of_the_curve_is_measured_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With programs that print a GPU's output: the fastest FP32 rung is the point, WMMA only stands beside it."""
    told = stanza("day11", "cpu-gpu-cublas-curve")["params"]
    micros = {"naive": 900.0, "tiled": 300.0, "double_buffered": 200.0, "fast": 105.0, "wmma": 20.0, "cublas": 100.0}
    monkeypatch.setattr(device, "first", lambda: H100)
    monkeypatch.setattr(toolchain, "executable", lambda build, work: _Built(build.source))

    def one(built: Path, argv: list[str], gpu: device.Gpu, *, tensor: bool = False) -> dict[str, Any]:
        fixed = {"sgemm_fast.cu": "fast", "half_accumulate.cu": "wmma"}
        name = fixed.get(built.name) or argv[argv.index("--variant") + 1]
        assert tensor == (name == "wmma")
        n = int(argv[argv.index("--n") + 1])
        return {"samples_us": [micros[name]], "flops": 2.0 * n**3, "max_rel_error": 1e-7}

    monkeypatch.setattr(program, "one", one)
    points = [gemm_curve.Point(impl="gpu_tiled", n=1024), gemm_curve.Point(impl="cublas", n=1024)]
    gemm_curve.run(
        gemm_curve.Params.model_validate(told),
        api.Context(day=tmp_path, scratch=tmp_path, settings={}, out=tmp_path, points=points, spec="test"),
    )
    mine, cublas = api.read_rows(tmp_path / "rows.jsonl", "test")
    assert mine["metrics"]["time_ms"] == pytest.approx(0.105)
    assert mine["metrics"]["cublas_pct"] == pytest.approx(100 / 1.05)
    assert mine["metrics"]["wmma_gflops"] > mine["metrics"]["gflops"] > mine["metrics"]["naive_gflops"]
    assert "'fast'" in mine["note"]
    assert cublas["metrics"]["gflops"] == pytest.approx(2 * 1024**3 / 100 / 1e3)


class _Built:
    def __init__(self, file: Path) -> None:
        self.file = file


def test_a_cpp_file_that_does_not_compile_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "mmul_cpu.cpp").write_text("int main() {\n    return x;\n}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"mmul_cpu.cpp:2: .*x.* was not declared"):
        host.compile_host(tmp_path / "mmul_cpu.cpp", tmp_path / "work")
