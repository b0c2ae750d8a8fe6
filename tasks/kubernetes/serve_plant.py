"""The stand-in for a cluster: Ray Serve replicas, scaled by the HPA's formula with the bounds and rules of hpa.yaml."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.kubernetes import hpa
from tasks.kubernetes.manifest import Autoscaler
from tasks.kubernetes.plant import Metric, Seen
from tasks.services import loopback, prometheus, ray

RATE = "rate(http_requests_total[2s])"  # each replica's; 2 s hold four scrapes


class CpuMeter:
    """CPU use of processes between two looks, in percent of `request` cores."""

    def __init__(self, request: float) -> None:
        self.request = request
        self.last: dict[int, tuple[float, float]] = {}

    def look(self, pids: list[int]) -> list[float | None]:
        """One value for each process; None for one that is seen for the first time."""
        import psutil

        now: dict[int, tuple[float, float]] = {}
        used: list[float | None] = []
        for pid in pids:
            try:
                times = psutil.Process(pid).cpu_times()
            except psutil.NoSuchProcess:
                continue
            now[pid] = (time.monotonic(), times.user + times.system)
            used.append(self.percent(self.last[pid], now[pid]) if pid in self.last else None)
        self.last = now
        return used

    def percent(self, before: tuple[float, float], after: tuple[float, float]) -> float:
        return 100 * (after[1] - before[1]) / (after[0] - before[0]) / self.request


class ServePlant:
    """`observe` also runs the control loop: every `sync_s` seconds it decides as the HPA does.

    The autoscaler's clock runs `time_scale` times as fast as the wall clock: a window of 60 s lasts 60/time_scale.
    """

    def __init__(
        self, serve: ray.RayServe, metrics: prometheus.Prometheus, decides: Metric, sync_s: float, time_scale: float
    ) -> None:
        self.serve, self.metrics, self.decides = serve, metrics, decides
        self.sync_s, self.time_scale = sync_s, time_scale
        self.target = serve.target

    def reset(self, scaler: Autoscaler) -> None:
        self.scaler = scaler
        self.serve.scale(scaler.bounds.least)
        self.serve.wait(scaler.bounds.least)
        self.desired = scaler.bounds.least
        self.history = hpa.History(wanted=((self.now(), self.desired),))
        self.meter = CpuMeter(scaler.cpu_request)
        self.meter.look(self.serve.pids())
        self.next_sync = time.monotonic() + self.sync_s
        self.cpu_pct: float | None = None

    def follow(self, metric: Metric) -> None:
        self.decides = metric

    def observe(self) -> Seen:
        running, rates = self.serve.running(), self.rates()
        if time.monotonic() >= self.next_sync:
            self.next_sync += self.sync_s
            self.sync(rates)
        return Seen(running, self.desired, self.cpu_pct, sum(rates))

    def rates(self) -> list[float]:
        """Requests per second of each replica, by PromQL."""
        return [series.samples[-1][1] for series in self.metrics.query(RATE)]

    def sync(self, rates: list[float]) -> None:
        used = self.meter.look(self.serve.pids())
        if known := [value for value in used if value is not None]:
            self.cpu_pct = sum(known) / len(known)
        if self.decides == "cpu":
            wanted = hpa.wanted(self.desired, self.padded(used), self.scaler.cpu_target_pct)
        else:
            target = self.scaler.qps_target
            wanted = hpa.wanted(self.desired, self.padded(list(rates)), target, assumed_low=target)
        decided, self.history = hpa.decide(self.desired, wanted, self.scaler.bounds, self.history, self.now())
        if decided != self.desired:
            self.serve.scale(decided)
            self.desired = decided

    def padded(self, samples: list[float | None]) -> list[float | None]:
        """One sample for each replica that was asked for; None for those that have none yet."""
        return samples + [None] * (self.desired - len(samples))

    def go_cold(self) -> None:
        self.serve.scale_to_zero()
        self.serve.wait(0)
        self.serve.scale_to_zero(idle_s=600)
        self.next_sync = float("inf")  # one replica, started by the first request: nothing for the HPA to decide

    def now(self) -> float:
        return time.monotonic() * self.time_scale


@contextmanager
def started(
    scratch: Path, most: int, layers: int, decides: Metric, sync_s: float, time_scale: float
) -> Iterator[ServePlant]:
    """Ray Serve and a Prometheus that scrapes every replica, in a private network where the machine allows one."""
    loopback.isolate()
    with ray.serving(layers=layers, most=most) as serve:
        targets = {f"replica-{port}": f"127.0.0.1:{port}" for port in serve.metrics}
        with prometheus.serve(targets, scratch / "prometheus", awaited=1) as metrics:
            yield ServePlant(serve, metrics, decides, sync_s, time_scale)
