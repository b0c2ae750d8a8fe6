#!/usr/bin/env python3
"""A Prometheus exporter of GPU temperatures.   pip install prometheus-client nvidia-ml-py; python exporter_gpu_temp.py

    curl -s localhost:9105/metrics | promtool check metrics

What is what:
- a temperature goes up and down: a gauge, read at the moment of the scrape, in the base unit (celsius);
- readings that failed only ever add up: a counter, whose name ends in _total;
- how long a reading takes is a distribution: a histogram, because histograms of many hosts can be added up
  (a summary's quantiles cannot);
- labels are few and bounded: one value for each GPU, none for a process, a user or a time.

It is honest about what it cannot see. Without NVML (no driver, no GPU) it exports nvml_up 0 and no GPU metric at all:
a missing series is a gap in the chart, an invented number would be a lie in it. What it says of the host itself is
called host_….
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pynvml
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

ZONES = Path("/sys/class/thermal")


class Gpus:
    """Temperature of every GPU that NVML shows, read anew at each scrape."""

    def __init__(self, failures: Counter, duration: Histogram) -> None:
        self.failures, self.duration = failures, duration

    def collect(self) -> Iterator[Metric]:
        start = time.perf_counter()
        up, labels = 0, ["gpu", "uuid", "name"]
        temperature = GaugeMetricFamily("gpu_temperature_celsius", "Temperature of the GPU, by NVML", labels=labels)
        try:
            pynvml.nvmlInit()  # at each scrape: the driver may come and go while the exporter runs
            try:
                for index in range(pynvml.nvmlDeviceGetCount()):
                    read(index, temperature)
                up = 1
            finally:
                pynvml.nvmlShutdown()
        except pynvml.NVMLError:
            self.failures.inc()
        self.duration.observe(time.perf_counter() - start)
        yield GaugeMetricFamily("nvml_up", "1 when NVML answered for every GPU", value=up)
        if temperature.samples:
            yield temperature


def read(index: int, temperature: GaugeMetricFamily) -> None:
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    labels = [str(index), pynvml.nvmlDeviceGetUUID(gpu), pynvml.nvmlDeviceGetName(gpu)]
    temperature.add_metric(labels, pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU))


class Host:
    """What the machine itself says, whether or not it has a GPU."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("host_load1", "Load average of the host over one minute", value=os.getloadavg()[0])
        labels = ["zone", "type"]
        zones = GaugeMetricFamily("host_temperature_celsius", "Thermal zone of the host, not of a GPU", labels=labels)
        for zone in sorted(ZONES.glob("thermal_zone*")):
            try:
                millidegrees = int((zone / "temp").read_text())
                zones.add_metric([zone.name, (zone / "type").read_text().strip()], millidegrees / 1000)
            except (OSError, ValueError):
                continue  # a sensor that is off has no temperature
        if zones.samples:
            yield zones


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    failures = Counter("nvml_read_failures", "Scrapes at which NVML could not be read", registry=None)
    buckets = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1]
    duration = Histogram("nvml_read_duration_seconds", "Time to read all GPUs", registry=None, buckets=buckets)
    for collector in (
        Gpus(failures, duration),
        Host(),
        failures,
        duration,
    ):  # the last two count this scrape
        found.register(collector)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Prometheus exporter of GPU temperatures")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9105)
    chosen = parser.parse_args()
    _, thread = start_http_server(chosen.port, chosen.address, registry())
    thread.join()


if __name__ == "__main__":
    main()
