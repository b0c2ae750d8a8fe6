"""What the monitoring drill is held on with a cluster: model, Prometheus and Grafana in a namespace of their own."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tasks.chaos import scrapes
from tasks.services import cluster
from tasks.services.cluster import Namespace
from tasks.services.open_load import Target
from tasks.services.process import LOOPBACK, free_port, serve
from tasks.services.prometheus import Prometheus

APPS = {"prometheus": "prometheus", "grafana": "grafana", "pod": "triton"}  # what is killed -> its label `app`
WORKLOADS = ("statefulset/triton", "deployment/prometheus", "deployment/grafana")
RULES = "alert-rules"  # the ConfigMap that the manifest's Prometheus mounts


class ClusterPlant:
    """The workloads of the manifest, reached through `kubectl proxy` at `proxy` (a URL)."""

    def __init__(self, space: Namespace, proxy: str) -> None:
        self.space, self.killed = space, ""
        self.services = f"{proxy}/api/v1/namespaces/{space.name}/services"
        self.target = Target(f"{self.services}/triton:http/proxy/v2/models/network/infer", cluster.BODY)

    def pods(self, app: str) -> list[dict[str, Any]]:
        return list(self.space.get("pods", f"--selector=app={app}")["items"])

    def kill(self, what: str, choose: random.Random) -> None:
        """Delete a Pod without grace; its workload's controller makes another."""
        pod = choose.choice(self.pods(APPS[what]))["metadata"]
        self.killed = pod["uid"]
        self.space.kubectl("delete", f"pod/{pod['name']}", "--wait=false", "--grace-period=0", "--force")

    def restored(self, what: str, since: float) -> bool:
        pods = self.pods(APPS[what])
        if not pods or any(pod["metadata"]["uid"] == self.killed or not is_ready(pod) for pod in pods):
            return False
        if what == "pod":
            return len(pods) == self.replicas()
        return scrapes.newest(self.prometheus()) > since if what == "prometheus" else self.shows()

    def replicas(self) -> int:
        return int(self.space.get(WORKLOADS[0])["spec"]["replicas"])

    def prometheus(self) -> Prometheus:
        return Prometheus(f"{self.services}/prometheus:http/proxy".removeprefix("http://"), 0)

    def shows(self) -> bool:
        """Whether Grafana answers, its database good."""
        try:
            with urlopen(f"{self.services}/grafana:http/proxy/api/health", timeout=5) as answer:
                return bool(json.load(answer)["database"] == "ok")
        except OSError:
            return False


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@contextmanager
def plant(manifest: Path, rules: Path, replicas: int, scratch: Path) -> Iterator[ClusterPlant]:
    """All that the manifest holds, rolled out with these alert rules, until the block ends."""
    port = free_port()
    with cluster.namespace() as space:
        space.kubectl("create", "configmap", RULES, f"--from-file=alerts.yaml={rules}")
        space.kubectl("apply", f"--filename={manifest}")
        space.kubectl("scale", WORKLOADS[0], f"--replicas={replicas}")
        for workload in WORKLOADS:
            space.kubectl("rollout", "status", workload, f"--timeout={cluster.ROLLOUT_S}s")
        proxy = ["kubectl", "proxy", f"--port={port}", f"--address={LOOPBACK}"]
        with serve(proxy, log=scratch / "kubectl-proxy.log", ready=lambda: cluster.answers(port)):
            yield ClusterPlant(space, f"http://{LOOPBACK}:{port}")
