"""One run of load against a plant, and what can be read from it."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.api import Spread
from tasks.kubernetes.plant import Plant, Seen
from tasks.services import open_load
from tasks.services.open_load import Answers

TICK_S = 0.25
WINDOW_S = 0.5  # of the latency curve
Phases = Sequence[tuple[float, float]]  # (seconds, qps)


@dataclass(frozen=True)
class Watched:
    """Looks at the plant, each with its time (s from the first due request), and every request's fate."""

    looks: Sequence[tuple[float, Seen]]
    answers: Answers
    seconds: float

    @property
    def note(self) -> str:
        failed = self.answers.error_pct()
        return f"{failed:.2f}% of the requests failed" if failed else ""

    def scale_out_s(self) -> float:
        """When the highest number of replicas ran for the first time; 0 when it never rose."""
        running = [seen.running for _, seen in self.looks]
        if max(running) == running[0]:
            return 0.0
        return next(at for at, seen in self.looks if seen.running == max(running))

    def peak(self) -> int:
        """The most replicas that ran at the same time."""
        return max(seen.running for _, seen in self.looks)

    def replicas(self) -> int:
        """Running when the load ended."""
        return self.looks[-1][1].running

    def steady_cpu_pct(self) -> float | None:
        """Mean CPU use, as the autoscaler saw it, over the last quarter of the load."""
        late = [seen.cpu_pct for at, seen in self.looks if at > 0.75 * self.seconds and seen.cpu_pct is not None]
        return sum(late) / len(late) if late else None

    def metric_lag_s(self) -> float | None:
        """Until the autoscaler's metric showed 90% of the rate really served; None when it never did."""
        served = self.answers.achieved_qps(self.seconds)
        return next((at for at, seen in self.looks if seen.qps is not None and seen.qps >= 0.9 * served), None)

    def curve(self) -> list[tuple[float, Spread]]:
        """(start of the window in s, latency in ms) of the requests that were due in each half second."""
        starts = [index * WINDOW_S for index in range(round(self.seconds / WINDOW_S))]
        windows = [(start, self.answers.between(start, start + WINDOW_S)) for start in starts]
        return [(start, window.latency_ms()) for start, window in windows if (window.status == 200).any()]

    def steady_s(self) -> float:
        """From when on each window's median stays within twice that of the last quarter; 0 when it always did."""
        late = 0.75 * self.seconds
        usual = statistics.median(latency.p50 for start, latency in self.curve() if start >= late)
        slow = [start for start, latency in self.curve() if latency.p50 > 2 * usual and start < late]
        return max(slow) + WINDOW_S if slow else 0.0

    def save(self, folder: Path, name: str) -> None:
        """Keep the replicas over time and the latency curve as CSV."""
        with (folder / f"replicas-{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["at_s", "running", "desired", "cpu_pct", "qps"])
            writer.writerows([round(at, 2), *vars(seen).values()] for at, seen in self.looks)
        with (folder / f"latency-{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["from_s", "requests", "latency_p50_ms", "latency_p99_ms"])
            writer.writerows((start, latency.n, latency.p50, latency.p99) for start, latency in self.curve())


def watch(plant: Plant, phases: Phases, scratch: Path, seed: int) -> Watched:
    """Offer the phases and look at the plant four times a second until they end."""
    seconds, out = sum(duration for duration, _ in phases), scratch / "answers.npy"
    looks: list[tuple[float, Seen]] = []
    with open_load.load(plant.target, phases, out, seed):
        started = time.monotonic()
        while (at := time.monotonic() - started) < seconds:
            looks.append((at, plant.observe()))
            time.sleep(max(0.0, started + at + TICK_S - time.monotonic()))
    return Watched(looks, open_load.answers(out), seconds)
