"""A real cluster, scaled by its own autoscaler from the applied hpa.yaml.

The CPU metric needs metrics-server, the QPS metric the Prometheus Adapter; a metric that the autoscaler cannot read
is not in its status, and then not in the record either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.kubernetes.manifest import Autoscaler, metric_is
from tasks.kubernetes.plant import Metric, Seen
from tasks.kubernetes.quantities import amount
from tasks.services import cluster


class ClusterPlant:
    def __init__(self, deployment: cluster.Deployment) -> None:
        self.deployment, self.target = deployment, deployment.target
        self.metrics: list[dict[str, Any]] = []  # those of the file, once one of them was asked for

    def reset(self, scaler: Autoscaler) -> None:
        window = {"scaleDown": {"stabilizationWindowSeconds": round(scaler.bounds.down.window_s)}}
        patch = json.dumps({"spec": {"behavior": window}})
        self.deployment.kubectl("patch", f"hpa/{self.deployment.name}", "--type=merge", f"--patch={patch}")
        self.deployment.scale(scaler.bounds.least)

    def follow(self, metric: Metric) -> None:
        """Of several metrics the HPA takes the one that asks for most: leave it only this one."""
        if not self.metrics:
            found = json.loads(self.deployment.kubectl("get", f"hpa/{self.deployment.name}", "--output=json"))
            self.metrics = found["spec"]["metrics"]
        patch = json.dumps({"spec": {"metrics": [one for one in self.metrics if metric_is(one) == metric]}})
        self.deployment.kubectl("patch", f"hpa/{self.deployment.name}", "--type=merge", f"--patch={patch}")

    def go_cold(self) -> None:
        self.deployment.kubectl("delete", "pod", "--all", "--wait=false", "--grace-period=1")

    def observe(self) -> Seen:
        status = self.deployment.status("deployment", "hpa")
        pods, scaler = status["Deployment"], status["HorizontalPodAutoscaler"]
        values = current(scaler)
        running = int(pods.get("readyReplicas", 0))
        qps = values["qps"] * running if "qps" in values else None
        return Seen(running, int(scaler.get("desiredReplicas", 0)), values.get("cpu"), qps)


def current(scaler: dict[str, Any]) -> dict[str, float]:
    """The autoscaler's view: "cpu" in percent of the request, "qps" for each pod; without those it does not know."""
    values = {}
    for metric in scaler.get("currentMetrics") or []:
        now = metric.get(str(metric["type"]).lower(), {}).get("current", {})
        if metric_is(metric) == "cpu" and "averageUtilization" in now:
            values["cpu"] = float(now["averageUtilization"])
        if metric_is(metric) == "qps" and "averageValue" in now:
            values["qps"] = amount(now["averageValue"])
    return values


@contextmanager
def applied(file: Path, scratch: Path) -> Iterator[ClusterPlant]:
    """`file` running on the cluster until the block ends."""
    with cluster.applied(file, scratch) as deployment:
        yield ClusterPlant(deployment)
