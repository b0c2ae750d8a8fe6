"""The CUDA toolchain without a GPU: what it compiles, reports, traces and refuses; what the native path would do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import environments
from tasks.api import UserError
from tasks.cuda import device, kernel, migration, ncu, occupancy, profile, program, sanitizer, sass, timed, toolchain
from tasks.cuda.points import Params
from tasks.cuda.source import kernel_lines

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/resources/cuda"
DAYS = {name: ROOT / "plans/week02" / name for name in ("day08", "day09")}
H100 = device.Gpu("H100", 1_980_000, 132, 2_619_000, 5120, 50 << 20, 9, 0, 80 << 30)

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


def stanza(day: str, experiment: str) -> dict[str, Any]:
    plan = yaml.safe_load((DAYS[day] / "day.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = plan["experiments"][experiment]
    return found


def files(day: str, names: list[str]) -> dict[str, Path]:
    return {name: DAYS[day] / name for name in names}


@pytest.fixture(scope="session")
def cuda_python() -> Path:
    return environments.provision(ROOT, "cuda", "managed", print)


def test_a_machine_without_cuda_compiles_with_the_environments_own_packages(cuda_python: Path, tmp_path: Path) -> None:
    script = f"""
import json
from pathlib import Path
from tasks.cuda import sass, toolchain
toolchain.SYSTEM = "/nowhere"
built = toolchain.cubin(toolchain.Build(Path({str(DAYS["day09"] / "bank_conflicts.cu")!r}), defines={{"STRIDE": 32, "PADDING": 1}}), Path({str(tmp_path)!r}))
usage = built.kernel()
print(json.dumps([str(toolchain.tool("nvcc")), usage.name, usage.smem_bytes, usage.registers, sass.kernels(built.file)[usage.symbol].count("LDS")]))
"""  # noqa: E501
    env = {**os.environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([str(cuda_python), "-c", script], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    nvcc, name, smem, registers, loads = json.loads(done.stdout)
    assert nvcc.startswith(str(cuda_python.parent.parent))
    assert (name, smem) == ("column_sums", 8 * 32 * 33 * 4)
    assert 8 <= registers <= 255
    assert loads > 0


def test_theoretical_occupancy_is_that_of_nvidias_own_header(cuda_python: Path, tmp_path: Path) -> None:
    [include] = cuda_python.parent.parent.glob("lib/python3*/site-packages/nvidia/cu*/include")
    calculator = tmp_path / "occupancy"
    subprocess.run(["g++", f"-I{include}", str(SAMPLES / "occupancy.cpp"), "-o", str(calculator)], check=True)
    cases = [
        (arch, registers, smem, block)
        for arch in occupancy.LIMITS for registers in (10, 33, 64, 100, 128, 255)
        for smem in (0, 1000, 16384, 49152, 99000) for block in (1, 32, 96, 256, 500, 1024)
    ]  # fmt: skip
    asked = "".join(
        f"{arch[3]} {arch[4]} {limits.warps * 32} {limits.shared_bytes} {limits.shared_bytes - 1024} "
        f"{registers} {smem} {block}\n"
        for arch, registers, smem, block in cases for limits in (occupancy.LIMITS[arch],)
    )  # fmt: skip
    theirs = subprocess.run([str(calculator)], input=asked, capture_output=True, text=True, check=True).stdout.split()
    ours = []
    for arch, registers, smem, block in cases:
        try:
            ours.append(occupancy.theoretical(registers, smem, block, arch).blocks)
        except UserError:
            ours.append(0)
    different = [(case, us, int(them)) for case, us, them in zip(cases, ours, theirs, strict=True) if us != int(them)]
    assert not different, different[:5]


def test_block_size_registers_and_spills_come_from_ptxas(run_kind: RunKind) -> None:
    given = stanza("day08", "blockdim-registers-occupancy")
    rows, _ = run_kind(
        "gpu_profile", given["params"], [{"block_dim": 256}, {"block_dim": 1024}], files("day08", given["uses"])
    )
    small, large = (row["metrics"] for row in rows)
    assert small["registers_per_thread"] > large["registers_per_thread"] == 64
    assert small["spill_bytes"] == 0 < large["spill_bytes"]
    assert large["theoretical_occupancy_pct"] == 50
    assert "achieved_occupancy_pct" not in small
    assert "nvcc" in rows[0]["note"]
    assert "sm_90" in rows[0]["note"]


def test_a_missing_guard_is_caught_at_the_first_thread_behind_the_end(run_kind: RunKind) -> None:
    given = stanza("day08", "out-of-bounds-memcheck")
    points = [{"guard": "present"}, {"guard": "missing"}]
    rows, _ = run_kind("cuda_kernel", given["params"], points, files("day08", given["uses"]))
    assert [row["metrics"]["errors_reported"] for row in rows] == [0, 72]  # 24 threads, two loads and a store each
    assert [row["metrics"]["faulting_thread"] for row in rows] == [-1, 1000 - 3 * 256]


def test_rows_that_begin_inside_a_sector_cost_a_2d_block_more_sectors(run_kind: RunKind) -> None:
    given = stanza("day08", "block-1d-vs-2d-coalescing")
    rows, _ = run_kind(
        "cuda_kernel", given["params"], [{"block": "1d"}, {"block": "2d"}], files("day08", given["uses"])
    )
    flat, square = (row["metrics"] for row in rows)
    assert flat["sectors_per_warp"] == pytest.approx(4, abs=0.05)
    assert square["sectors_per_warp"] == pytest.approx(4.86, abs=0.02)
    assert "kernel_us" not in flat


def test_odd_strides_have_no_bank_conflicts_and_padding_makes_them_even(run_kind: RunKind) -> None:
    given = stanza("day09", "bank-conflict-stride-padding")
    points = [{"stride": s, "padding": p} for s in (16, 17, 32) for p in (0, 1)]
    rows, out = run_kind("cuda_kernel", given["params"], points, files("day09", given["uses"]))
    assert [row["metrics"]["bank_conflict_degree"] for row in rows] == [16, 1, 1, 2, 32, 1]
    drawn = (out / "bank_conflicts.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert drawn.count("<!-- stride ") == 6  # the title of each panel


def test_a_twin_that_computes_something_else_is_no_twin(run_kind: RunKind) -> None:
    given = stanza("day09", "bank-conflict-stride-padding")
    twin = (DAYS["day09"] / "bank_conflicts_twin.py").read_text(encoding="utf-8")
    wrong = {
        **files("day09", given["uses"]),
        "bank_conflicts_twin.py": twin.replace("target[lane] = total", "target[lane] = 1"),
    }
    with pytest.raises(AssertionError, match=r"bank_conflicts_twin.py: the twin's result is wrong by"):
        run_kind("cuda_kernel", given["params"], [{"stride": 17, "padding": 0}], wrong)


def test_a_source_that_does_not_compile_is_named_with_its_line(run_kind: RunKind) -> None:
    given = stanza("day08", "blockdim-registers-occupancy")
    broken = "__global__ void vector_add_wide(float* a) {\n    a[0] = nothing;\n}\n"
    with pytest.raises(AssertionError, match=r'vector_add.cu:2: identifier "nothing" is undefined'):
        run_kind("gpu_profile", given["params"], [{"block_dim": 32}], {"vector_add.cu": broken})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a.cu(3): error: expected a \";\"", "a.cu:3: expected a \";\""),
        ("/tmp/x/a.cu:7:5: error: 'q' was not declared", "a.cu:7: 'q' was not declared"),
        ("/usr/bin/ld: a.cpp:(.text+0x5): undefined reference to `q()'", "a.cu: undefined reference to `q()'"),
        ("ptxas error   : 'k' uses too much shared data", "a.cu: 'k' uses too much shared data"),
        ("nvcc fatal   : Unsupported gpu architecture", "a.cu: nvcc fatal   : Unsupported gpu architecture"),
    ],
)  # fmt: skip
def test_the_first_complaint_of_each_compiler_is_the_users_error(said: str, expected: str) -> None:
    assert (
        str(toolchain.complaint(f"some warning\n{said}\n1 error detected\n" if "fatal" not in said else said, "a.cu"))
        == expected
    )


def test_kernel_lines_are_code_lines(tmp_path: Path) -> None:
    file = tmp_path / "k.cu"
    head = "template <int N>\n__global__ void\n__launch_bounds__(256) k(int* a) {\n"
    file.write_text(f"{head}  // why\n\n  if (N) {{\n    a[0] = 1;\n  }}\n}}\n")
    assert kernel_lines(file, "k<4>") == 7


def test_padding_behind_a_kernel_is_no_branch() -> None:
    text = """		Function : k
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 BRA 0x40 ;
        /*0020*/                   FFMA R2, R2, R3, R4 ;
        /*0030*/                   EXIT ;
        /*0040*/                   BRA 0x40;
        /*0050*/                   NOP;
"""
    code = sass.read(text)["k"]
    assert (code.total, code.branches, code.count("FFMA")) == (4, 1, 1)


def test_sanitizers_report_gives_count_and_first_thread() -> None:
    report = sanitizer.read((SAMPLES / "memcheck.txt").read_text(encoding="utf-8"))
    assert (report.errors, report.thread, report.block) == (25, (232, 0, 0), (3, 0, 0))
    assert report.first == "Invalid __global__ read of size 4 bytes"
    with pytest.raises(UserError, match="no summary"):
        sanitizer.read("Error: No attachable process found")


def test_ncus_export_is_read_past_the_programs_own_output() -> None:
    text = (SAMPLES / "ncu_raw.csv").read_text(encoding="utf-8")
    assert ncu.read(text, profile.ASKED) == {
        "achieved_occupancy_pct": 11.84, "registers_per_thread": 159, "sm_throughput_pct": 4.61,
        "memory_throughput_pct": 88.2,
    }  # fmt: skip
    with pytest.raises(UserError, match="no load_sectors"):
        ncu.read(text, ["load_sectors"])
    with pytest.raises(UserError, match="measured no launch"):
        ncu.read("==WARNING== No kernels were profiled.", ["load_sectors"])


def test_profilers_are_asked_for_one_kernel_and_nothing_of_a_shell() -> None:
    asked = ncu.argv(Path("a b"), ["--n", "7"], "k", ["load_sectors"])
    assert asked[0] == "ncu"
    assert asked[-3:] == ["a b", "--n", "7"]
    assert asked[asked.index("--kernel-name") + 1] == "k"
    assert sanitizer.argv(Path("p"), ["--n", "7"], "racecheck")[:3] == ["compute-sanitizer", "--tool", "racecheck"]
    assert "--cuda-um-gpu-page-faults=true" in migration.argv(Path("p"), [], Path("r"))


def test_migrated_memory_is_both_directions() -> None:
    found = migration.read((SAMPLES / "um_total_sum.csv").read_text(encoding="utf-8"))
    assert found == {"page_faults": 38007, "migrated_gb": pytest.approx(4.124115)}
    with pytest.raises(UserError, match="no Unified Memory traffic"):
        migration.read("SKIPPED: does not contain CUDA Unified Memory data")


def line(**changes: Any) -> dict[str, Any]:
    return {"kernel": "k", "samples_us": [100.0, 80.0], "bytes": 12 << 24, "flops": 1 << 24, "correct": True, **changes}


def test_figures_beyond_the_roofline_are_refused() -> None:
    program.plausible(line(), H100)  # 12 * 2^24 bytes in 80 us: 2.5 TB/s, below 3.35
    with pytest.raises(UserError, match="GB/s is more than H100 can do"):
        program.plausible(line(bytes=12 << 26), H100)
    with pytest.raises(UserError, match="GFLOPS is more than H100 can do"):
        program.plausible(line(flops=1 << 34), H100)
    program.plausible(line(flops=1 << 35), H100, tensor=True)
    program.plausible(line(bytes=12 << 20, samples_us=[3.0]), H100)  # from the L2 cache: beyond the memory's 3.35 TB/s


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "printed no measurement"), ("Hello\n", "is no JSON"), (json.dumps(line(correct=False)), "wrong result"),
     (json.dumps(line(correct=None)), "wrong result")],
)  # fmt: skip
def test_output_that_proves_nothing_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        program.parse(text, "p")


class Staged:
    """A compiled source whose program is a script that prints what a GPU would have measured."""

    gpu, arch = H100, "sm_90"

    def __init__(self, folder: Path) -> None:
        self.script = folder / "program"
        one, two = json.dumps(line(samples_us=[200.0] * 9)), json.dumps(line(samples_us=[100.0] * 9, overlap_pct=80.5))
        self.script.write_text(f"#!/bin/sh\ncase \"$*\" in *'--streams 2'*) echo '{two}';; *) echo '{one}';; esac\n")
        self.script.chmod(0o755)

    def program(self, axes: Any) -> toolchain.Compiled:
        return toolchain.Compiled(self.script, self.arch, (), "nvcc 13.0.88")

    def arguments(self, axes: Any) -> list[str]:
        return ["--streams", str(axes["streams"])]


def test_on_a_gpu_times_rates_and_the_speed_up_come_from_the_programs_samples(tmp_path: Path) -> None:
    params = Params(source="x.cu", baseline={"streams": 1}, time_metric="total_ms")
    metrics, spread, note = timed.measure(Staged(tmp_path), params, {"streams": 2})  # type: ignore[arg-type]
    assert metrics["total_ms"] == pytest.approx(0.1)
    assert metrics["speedup_x"] == pytest.approx(2)
    assert metrics["bandwidth_gb_s"] == pytest.approx((12 << 24) / 100e-6 / 1e9)
    assert metrics["overlap_pct"] == 80.5
    assert spread["total_ms"].n == 9
    assert note == "H100, nvcc 13.0.88, sm_90"


def test_a_shared_gpu_is_never_filled_beyond_its_memory(tmp_path: Path) -> None:
    given = Params.model_validate(stanza("day09", "unified-memory-oversubscribe")["params"])
    timed.refuse_to_overfill(given, {"footprint_of_vram": 0.9})
    with pytest.raises(UserError, match="own_gpu"):
        timed.refuse_to_overfill(given, {"footprint_of_vram": 1.1})


def test_what_is_about_time_has_no_stand_in_and_counts_have_one() -> None:
    kinds = {"cuda_kernel": kernel, "gpu_profile": profile}
    tiers = {}
    for day in DAYS:
        for name, given in yaml.safe_load((DAYS[day] / "day.yaml").read_text(encoding="utf-8"))["experiments"].items():
            needs = kinds[given["kind"]].needs(Params.model_validate(given["params"]))
            assert needs[0].gpus == 1
            assert needs[0].tier == "native"
            tiers[name] = [one.backend for one in needs[1:]]
    assert {name for name, found in tiers.items() if found} == {
        "out-of-bounds-memcheck", "blockdim-registers-occupancy", "block-1d-vs-2d-coalescing",
        "bank-conflict-stride-padding",
    }  # fmt: skip
