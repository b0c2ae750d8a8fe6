"""Unified Memory seen by Nsight Systems: pages that the GPU had to fetch, bytes moved both ways."""

from __future__ import annotations

import csv
import io
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tasks.api import UserError

RUN_S = 600
REPORT = "um_total_sum"
MIGRATED = ("Total HtoD Migration Size (MB)", "Total DtoH Migration Size (MB)")
FAULTS = "Total GPU PageFaults"


def argv(program: Path, arguments: Sequence[str], report: Path) -> list[str]:
    return ["nsys", "profile", "--trace=cuda", "--cuda-um-gpu-page-faults=true", "--cuda-um-cpu-page-faults=true",
            "--force-overwrite=true", f"--output={report}", str(program), *arguments]  # fmt: skip


def stats_argv(report: Path) -> list[str]:
    return ["nsys", "stats", f"--report={REPORT}", "--format=csv", "--output=-", "--force-export=true", str(report)]


def profile(program: Path, arguments: Sequence[str]) -> dict[str, float]:
    """`page_faults` and `migrated_gb` of one run, warm-up and repeats together."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "run.nsys-rep"
        _call(argv(program, arguments, report))
        return read(_call(stats_argv(report)))


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise UserError(f"nsys: {last}", where=" ".join(command[:2]))
    return done.stdout


def read(text: str) -> dict[str, float]:
    """From the CSV of the report um_total_sum. UserError when the program moved no managed memory at all."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if FAULTS in line), None)
    rows = list(csv.DictReader(io.StringIO("\n".join(lines[start:])))) if start is not None else []
    if not rows:
        raise UserError("nsys saw no Unified Memory traffic", where=f"nsys stats --report={REPORT}")
    number = {name: float((rows[0].get(name) or "0").replace(",", "")) for name in (*MIGRATED, FAULTS)}
    return {"page_faults": number[FAULTS], "migrated_gb": sum(number[name] for name in MIGRATED) / 1e3}
