"""A real cluster: hpa.yaml applied with kubectl into a namespace of its own, which is deleted afterwards.

Requests go through `kubectl proxy` to the Service named like the Deployment, so that they are spread over the pods
without an ingress. The CPU metric needs metrics-server, the QPS metric the Prometheus Adapter.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tasks.api import UserError
from tasks.kubernetes.manifest import Autoscaler, metric_is, quantity
from tasks.kubernetes.plant import Seen
from tasks.services.open_load import Target
from tasks.services.process import LOOPBACK, free_port, serve

ROLLOUT_S = 600  # the first pull of the server's image
BODY = '{"inputs": [{"name": "SEED", "shape": [1], "datatype": "INT32", "data": [{seed}]}]}'


class ClusterPlant:
    def __init__(self, namespace: str, deployment: str, proxy: str) -> None:
        self.namespace, self.deployment = namespace, deployment
        service = f"{proxy}/api/v1/namespaces/{namespace}/services/{deployment}:http/proxy"
        self.target = Target(f"{service}/v2/models/network/infer", BODY)

    def reset(self, scaler: Autoscaler) -> None:
        window = {"scaleDown": {"stabilizationWindowSeconds": round(scaler.bounds.down.window_s)}}
        patch = json.dumps({"spec": {"behavior": window}})
        self.kubectl("patch", "hpa", self.deployment, "--type=merge", f"--patch={patch}")
        self.kubectl("scale", f"deployment/{self.deployment}", f"--replicas={scaler.bounds.least}")
        self.await_rollout()

    def go_cold(self) -> None:
        self.kubectl("delete", "pod", "--all", "--wait=false", "--grace-period=1")

    def observe(self) -> Seen:
        both = self.kubectl("get", f"deployment/{self.deployment}", f"hpa/{self.deployment}", "--output=json")
        status = {part["kind"]: part.get("status", {}) for part in json.loads(both)["items"]}
        pods, scaler = status["Deployment"], status["HorizontalPodAutoscaler"]
        values = current(scaler)
        running = int(pods.get("readyReplicas", 0))
        qps = values["qps"] * running if "qps" in values else None
        return Seen(running, int(scaler.get("desiredReplicas", 0)), values.get("cpu"), qps)

    def await_rollout(self) -> None:
        self.kubectl("rollout", "status", f"deployment/{self.deployment}", f"--timeout={ROLLOUT_S}s")

    def kubectl(self, *words: str) -> str:
        return kubectl("--namespace", self.namespace, *words)


def current(scaler: dict[str, Any]) -> dict[str, float]:
    """The autoscaler's view: "cpu" in percent of the request, "qps" for each pod; without those it does not know."""
    values = {}
    for metric in scaler.get("currentMetrics") or []:
        now = metric.get(str(metric["type"]).lower(), {}).get("current", {})
        if metric_is(metric) == "cpu" and "averageUtilization" in now:
            values["cpu"] = float(now["averageUtilization"])
        if metric_is(metric) == "qps" and "averageValue" in now:
            values["qps"] = quantity(now["averageValue"])
    return values


def kubectl(*words: str) -> str:
    """Output of a kubectl command; UserError with its message when it fails."""
    done = subprocess.run(["kubectl", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(f"kubectl {words[0]}: {done.stderr.strip()}", where=" ".join(["kubectl", *words]))
    return done.stdout


@contextmanager
def applied(file: Path, deployment: str, scratch: Path) -> Iterator[ClusterPlant]:
    """`file` running in a namespace of its own until the block ends."""
    namespace, port = f"infra90-{os.getpid()}", free_port()
    kubectl("create", "namespace", namespace)
    try:
        kubectl("--namespace", namespace, "apply", f"--filename={file}")
        proxy = ["kubectl", "proxy", f"--port={port}", f"--address={LOOPBACK}"]
        with serve(proxy, log=scratch / "kubectl-proxy.log", ready=lambda: answers(port)):
            plant = ClusterPlant(namespace, deployment, f"http://{LOOPBACK}:{port}")
            plant.await_rollout()
            yield plant
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def answers(port: int) -> bool:
    with urlopen(f"http://{LOOPBACK}:{port}/version", timeout=5) as answer:
        return bool(answer.status == 200)
