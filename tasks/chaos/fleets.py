"""What the fault drill is held on: several replicas of which one can be killed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tasks.services import cluster, loopback, ray
from tasks.services.open_load import Target


class Fleet(Protocol):
    target: Target

    def kill_one(self, choose: random.Random) -> None:
        """End one replica without warning."""

    def ready(self) -> int:
        """How many replicas live and take requests."""


class ServeFleet:
    """Ray Serve replicas. Ray's controller supervises them; HAProxy passes requests on."""

    def __init__(self, serve: ray.RayServe) -> None:
        self.serve, self.target = serve, serve.target

    def kill_one(self, choose: random.Random) -> None:
        os.kill(choose.choice(self.serve.pids()), signal.SIGKILL)

    def ready(self) -> int:
        return len(self.serve.pids())


class PodFleet:
    """The Pods of a Deployment, which the cluster supervises."""

    def __init__(self, deployment: cluster.Deployment) -> None:
        self.deployment, self.target = deployment, deployment.target

    def kill_one(self, choose: random.Random) -> None:
        pods = self.deployment.kubectl("get", "pods", "--output=name").split()
        self.deployment.kubectl("delete", choose.choice(pods), "--wait=false", "--grace-period=0", "--force")

    def ready(self) -> int:
        return int(self.deployment.status("deployment")["Deployment"].get("readyReplicas", 0))


@contextmanager
def replicated(replicas: int, layers: int) -> Iterator[ServeFleet]:
    """So many Ray Serve replicas of the small network, in a private network where the machine allows one."""
    loopback.isolate()
    with ray.serving(layers=layers, most=replicas) as serve:
        serve.scale(replicas)
        serve.wait(replicas)
        yield ServeFleet(serve)


@contextmanager
def deployed(replicas: int, manifest: Path, scratch: Path) -> Iterator[PodFleet]:
    """So many Pods of the manifest's Deployment, without its autoscaler, which would interfere."""
    with cluster.applied(manifest, scratch) as deployment:
        deployment.kubectl("delete", "hpa", "--all")
        deployment.scale(replicas)
        yield PodFleet(deployment)
