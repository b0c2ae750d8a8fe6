"""Proves an exporter of GPU temperatures: promtool has nothing against its page, and it says only what it can see."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.observability import live, promtool

GPU = re.compile(r"gpu|temperature|celsius|thermal", re.IGNORECASE)
HOST = "host_"  # what a machine says of itself may be hot, too
Sample = tuple[str, dict[str, str], float]  # name, labels, value


class Params(Base):
    up: str = "nvml_up"  # 1 when NVML answers, 0 when it does not
    temperature: str = "gpu_temperature_celsius"  # labelled with the GPU's uuid
    tolerance_c: float = 2


def needs(params: Params) -> Needs:
    return Needs("exporter + promtool", binaries=("promtool",), modules=("prometheus_client", "pynvml"))


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    try:
        with live.exporter(file, work.scratch) as address:
            page = live.page(address)
            gpus = temperatures()
        if faults := promtool.check_metrics(page):
            raise UserError("promtool check metrics: " + "; ".join(faults), where=file.name)
        samples = read(page)
        said = blind(samples, params) if gpus is None else seeing(samples, params, gpus)
    except UserError as error:
        return Verdict(False, str(error))
    return Verdict(True, said, {"samples": len(samples), "gpus": gpus or {}})


def read(page: str) -> list[Sample]:
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(page)
    return [(one.name, dict(one.labels), float(one.value)) for family in families for one in family.samples]


def temperatures() -> dict[str, float] | None:
    """UUID -> °C by nvidia-smi; None on a machine where it is not there or sees no GPU."""
    if not shutil.which("nvidia-smi"):
        return None
    argv = ["nvidia-smi", "--query-gpu=uuid,temperature.gpu", "--format=csv,noheader,nounits"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return parsed(done.stdout) if done.returncode == 0 and done.stdout.strip() else None


def parsed(table: str) -> dict[str, float]:
    """nvidia-smi's lines `GPU-…, 41`."""
    rows = [line.split(",") for line in table.splitlines() if line.strip()]
    return {uuid.strip(): float(celsius) for uuid, celsius in rows}


def blind(samples: Sequence[Sample], params: Params) -> str:
    """Without NVML it must say that it is blind, and nothing of a GPU."""
    if (state := up(samples, params)) != 0:
        raise UserError(f"there is no NVML on this machine, yet {params.up} is {state:g}")
    invented = [
        f"{name} {value:g}"
        for name, _, value in samples
        if GPU.search(name) and not name.startswith(HOST) and name != params.up and not countable(name)
    ]
    if invented:
        raise UserError(f"there is no GPU to be seen on this machine, yet it exports {', '.join(invented)}")
    return f"promtool has nothing against it; without NVML it exports {params.up} 0 and no temperature of a GPU"


def countable(name: str) -> bool:
    """Counts and durations of its own work are no readings of a GPU."""
    return name.endswith(("_total", "_created", "_count", "_sum", "_bucket"))


def seeing(samples: Sequence[Sample], params: Params, gpus: dict[str, float]) -> str:
    """With NVML every GPU's temperature must be nvidia-smi's."""
    if (state := up(samples, params)) != 1:
        raise UserError(f"nvidia-smi sees {len(gpus)} GPUs, yet {params.up} is {state:g}")
    shown = {labels.get("uuid", ""): value for name, labels, value in samples if name == params.temperature}
    for uuid, celsius in gpus.items():
        if uuid not in shown:
            raise UserError(f"{params.temperature} has no sample with uuid={uuid!r}")
        if abs(shown[uuid] - celsius) > params.tolerance_c:
            raise UserError(f"{uuid} is at {celsius:g} °C by nvidia-smi, at {shown[uuid]:g} °C by the exporter")
    return f"promtool has nothing against it; {len(gpus)} GPUs within {params.tolerance_c:g} °C of nvidia-smi"


def up(samples: Sequence[Sample], params: Params) -> float:
    found = [value for name, _, value in samples if name == params.up]
    if len(found) != 1:
        raise UserError(f"there must be one sample of {params.up}, not {len(found)}")
    return found[0]
