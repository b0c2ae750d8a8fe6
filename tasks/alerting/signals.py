"""The series that an alert may watch, made to show a given utilization or latency.

A signal gives the increase or the value of each of its series: gauges stand still, counters grow with the requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

GPU_UNITS = {"DCGM_FI_DEV_GPU_UTIL": 1.0, "nv_gpu_utilization": 0.01, "nvidia_smi_utilization_gpu_ratio": 0.01}
HISTOGRAM_UNITS = {  # what one millisecond is in the histogram's unit
    "http_request_duration_seconds": 0.001,
    "envoy_cluster_upstream_rq_time": 1.0,
    "envoy_http_downstream_rq_time": 1.0,
}
TRITON_TIME, TRITON_COUNT = "nv_inference_request_duration_us", "nv_inference_request_success"
BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
REQUESTS = 30  # in each step


@dataclass(frozen=True)
class Series:
    """`labels` beyond the rule's own. A gauge has `level`; a counter grows by `level` in each step."""

    name: str
    labels: Mapping[str, str]
    level: float
    counter: bool = False


Signal = Callable[[float], list[Series]]  # what shows this utilization (percent) or latency (ms)


def gpu(name: str) -> Signal:
    return lambda percent: [Series(name, {}, percent * GPU_UNITS[name])]


def latency(name: str) -> Signal:
    """A histogram, by the name of one of its series, or Triton's counters of time and requests."""
    return triton if name in (TRITON_TIME, TRITON_COUNT) else lambda ms: histogram(name, ms)


def histogram(name: str, ms: float) -> list[Series]:
    base = name.removesuffix("_bucket")
    unit = HISTOGRAM_UNITS[base]
    buckets = [
        Series(f"{base}_bucket", {"le": f"{bound * unit:g}"}, REQUESTS * (ms <= bound), True) for bound in BOUNDS_MS
    ]
    return [
        *buckets, Series(f"{base}_bucket", {"le": "+Inf"}, REQUESTS, True), Series(f"{base}_count", {}, REQUESTS, True),
        Series(f"{base}_sum", {}, REQUESTS * ms * unit, True),
    ]  # fmt: skip


def triton(ms: float) -> list[Series]:
    return [Series(TRITON_TIME, {}, REQUESTS * ms * 1000, True), Series(TRITON_COUNT, {}, REQUESTS, True)]


GPU_NAMES = tuple(GPU_UNITS)
LATENCY_NAMES = (*(f"{name}_bucket" for name in HISTOGRAM_UNITS), TRITON_TIME)
