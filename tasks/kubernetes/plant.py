"""What the autoscaling experiments act on: a system with replicas that scales itself while it is watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from tasks.kubernetes.manifest import Autoscaler
from tasks.services.open_load import Target

Metric = Literal["cpu", "qps"]


@dataclass(frozen=True)
class Seen:
    """One look. `desired` is what the autoscaler asks for; the metrics are its own view, None until it has one.

    `cpu_pct` is the mean use of the replicas in percent of one's CPU request, `qps` the rate of the whole service.
    """

    running: int
    desired: int
    cpu_pct: float | None = None
    qps: float | None = None


class Plant(Protocol):
    """A scaling system. Implemented by `serve_plant` (Ray Serve, HPA formula) and `cluster_plant` (Kubernetes)."""

    target: Target

    def reset(self, scaler: Autoscaler) -> None:
        """The least number of replicas, ready, and `scaler` in force with nothing remembered."""

    def follow(self, metric: Metric) -> None:
        """Decide by this metric alone."""

    def observe(self) -> Seen:
        """Look once; called several times a second."""

    def go_cold(self) -> None:
        """No replica is left; the load that follows makes one start."""
