"""Kind `dcgm_exporter`: NVIDIA's exporter under Prometheus, on an idle GPU, one that multiplies and one that copies.

nvidia-smi calls a GPU busy whenever a kernel runs; the profiling counters tell what it is busy with. The day's counter
file is what the exporter reads (it needs rights to profile: root or SYS_ADMIN).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

from pydantic import Field

from tasks import api
from tasks.observability import configuration
from tasks.services import process, prometheus
from tasks.services.prometheus import Prometheus

JOB = "dcgm"
SCRAPE_S = 1.0
EXPORTER = "dcgm-exporter"


class Params(api.Params):
    config: str = "prometheus.yaml"
    counters: str = "dcgm_counters.csv"
    seconds: float = Field(default=10.0, ge=5)  # of each load
    settle_s: float = Field(default=3.0, ge=0)  # not counted: the exporter's own period is a second
    size: int = Field(default=8192, ge=256)  # of the multiplied matrices
    copied_mb: int = Field(default=4096, ge=1)


class Point(api.Params):
    load: Literal["idle", "multiply", "copy"] = "idle"


QUERIES = {
    "gpu_util_pct": "DCGM_FI_DEV_GPU_UTIL",
    "sm_active_pct": "100 * DCGM_FI_PROF_SM_ACTIVE",
    "tensor_active_pct": "100 * DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
    "dram_active_pct": "100 * DCGM_FI_PROF_DRAM_ACTIVE",
    "memory_used_mib": "DCGM_FI_DEV_FB_USED",
    "power_w": "DCGM_FI_DEV_POWER_USAGE",
}
METRICS = {
    "gpu_util_pct": "share of time that a kernel ran, what nvidia-smi calls utilisation",
    "sm_active_pct": "share of cycles in which an SM had a warp, mean over the SMs",
    "tensor_active_pct": "share of cycles in which the tensor pipe worked",
    "dram_active_pct": "share of cycles in which the memory interface moved data: memory bandwidth in use",
    "memory_used_mib": "GPU memory in use, in MiB",
    "power_w": "power draw, in watts",
    "series_count": "series of DCGM_FI_* that Prometheus has of this GPU's host",
    "scrape_points": "scrapes in the window",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(
            backend="dcgm-exporter + Prometheus", environment="serving", gpus=1,
            binaries=(EXPORTER, "prometheus", "promtool"),
        )
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    config = configuration.load(ctx.day / params.config)
    configuration.job(config, JOB, params.config)
    with exporter(ctx.day / params.counters, ctx.out / "dcgm-exporter.log") as address:
        placed = configuration.placed(config, ctx.day, {JOB: address}, interval_s=SCRAPE_S)
        with prometheus.configured(placed, ctx.scratch / "prometheus") as watcher:
            prometheus.await_targets(watcher, 1, 30)
            for point in ctx.points:
                start = time.time() + params.settle_s
                work(params, point.load)
                ctx.record(point, seen(watcher, start, time.time(), used_gpu()))


@contextmanager
def exporter(counters: Path, log: Path) -> Iterator[str]:
    """dcgm-exporter with a counter file, on a free port; UserError with its last words when it does not serve."""
    if not counters.is_file() or not counters.read_text(encoding="utf-8").strip():
        raise api.UserError("is missing or empty", where=counters.name)
    address = f"{process.LOOPBACK}:{process.free_port()}"
    with process.serve(argv(counters, address), log=log, ready=lambda: exports(address), timeout_s=60):
        yield address


def argv(counters: Path, address: str) -> list[str]:
    """-c: collect every second, in ms; no Kubernetes labels."""
    return [EXPORTER, "-f", str(counters), "-a", address, "-c", "1000", "--kubernetes=false"]


def exports(address: str) -> bool:
    with urlopen(f"http://{address}/metrics", timeout=5) as answer:
        return b"DCGM_FI_" in answer.read()


def work(params: Params, load: str) -> None:
    """Keep GPU 0 at it for the seconds of the Params and the time to settle."""
    import torch

    until = time.monotonic() + params.seconds + params.settle_s
    if load == "idle":
        time.sleep(until - time.monotonic())
        return
    if load == "multiply":
        left = torch.randn(params.size, params.size, device="cuda", dtype=torch.bfloat16)
        into, right = torch.empty_like(left), torch.randn_like(left)
    else:
        left = torch.zeros(params.copied_mb * 2**20, device="cuda", dtype=torch.uint8)
        into = torch.empty_like(left)
    while time.monotonic() < until:
        for _ in range(10):
            torch.matmul(left, right, out=into) if load == "multiply" else into.copy_(left)
        torch.cuda.synchronize()


def used_gpu() -> str:
    """The UUID, as DCGM writes it, of the GPU that is put to work: CUDA's first may be another one of the host."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


def seen(watcher: Prometheus, start: float, end: float, gpu: str) -> dict[str, float]:
    """Means over the window of one GPU. UserError naming the counter that the exporter does not give for it."""
    window = f"[{max(1, round(end - start))}s:{SCRAPE_S:g}s]"
    found = {}
    for name, query in QUERIES.items():
        series = [
            one for one in watcher.query(f"avg_over_time(({query}){window})", end) if one.labels.get("UUID") == gpu
        ]
        if not series:
            raise api.UserError(
                f"the exporter gives no {query.split()[-1]}", where=name,
                remedy="profiling counters (DCGM_FI_PROF_*) need a data-centre GPU and root or SYS_ADMIN",
            )  # fmt: skip
        found[name] = series[0].samples[0][1]
    found["series_count"] = watcher.query(f'count({{__name__=~"DCGM_FI_.*",job="{JOB}"}})', end)[0].samples[0][1]
    scrapes = watcher.query(f'count_over_time(up{{job="{JOB}"}}[{max(1, round(end - start))}s])', end)
    return {**found, "scrape_points": scrapes[0].samples[0][1]}
