"""Nsight Compute from the command line: its arguments and its CSV export."""

from __future__ import annotations

import csv
import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tasks.api import UserError

RUN_S = 300
# our metric → Nsight Compute's
NAMES = {
    "achieved_occupancy_pct": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers_per_thread": "launch__registers_per_thread",
    "theoretical_occupancy_pct": "sm__maximum_warps_per_active_cycle_pct",
    "sm_throughput_pct": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "memory_throughput_pct": "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed",
    "load_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
    "load_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum",
    "store_sectors": "l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",
    "store_requests": "l1tex__t_requests_pipe_lsu_mem_global_op_st.sum",
    "load_efficiency_pct": "smsp__sass_average_data_bytes_per_sector_mem_global_op_ld.pct",
    "shared_wavefronts": "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
    "shared_loads": "smsp__inst_executed_op_shared_ld.sum",
    "shared_stores": "smsp__inst_executed_op_shared_st.sum",
    "dram_bytes": "dram__bytes.sum",
}


def argv(program: Path, arguments: Sequence[str], kernel: str, metrics: Sequence[str]) -> list[str]:
    """Profile the first launch of one kernel; `metrics` are keys of NAMES. Clocks stay as they are."""
    names = ",".join(NAMES[name] for name in metrics)
    return ["ncu", "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none",
            "--kernel-name-base", "function", "--kernel-name", kernel, "--launch-count", "1", "--metrics", names,
            str(program), *arguments]  # fmt: skip


def profile(program: Path, arguments: Sequence[str], kernel: str, metrics: Sequence[str]) -> dict[str, float]:
    """Our metrics of the kernel's first launch. UserError with ncu's message (often: ERR_NVGPUCTRPERM)."""
    command = argv(program, arguments, kernel, metrics)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S)
    wrong = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("==ERROR==")]
    if wrong:
        remedy = "the administrator must allow GPU performance counters" if "ERR_NVGPUCTRPERM" in wrong[0] else ""
        raise UserError(wrong[0].removeprefix("==ERROR==").strip(), where="ncu", remedy=remedy)
    return read(done.stdout, metrics)


def read(text: str, metrics: Sequence[str]) -> dict[str, float]:
    """From ncu's raw CSV page: a line of names, a line of units, a line for each launch; the program's lines around."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise UserError("ncu measured no launch", where="ncu", remedy="is the kernel's name right?")
    rows = list(csv.DictReader(io.StringIO("\n".join(line for line in lines[start:] if line.startswith('"')))))
    if len(rows) < 2:
        raise UserError("ncu's export holds no launch", where="ncu")
    launch = rows[1]  # the first holds the units
    missing = [name for name in metrics if not launch.get(NAMES[name])]
    if missing:
        raise UserError(f"ncu has no {', '.join(missing)} on this GPU", where="ncu")
    return {name: float(launch[NAMES[name]].replace(",", "")) for name in metrics}
