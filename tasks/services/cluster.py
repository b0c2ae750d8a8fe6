"""A Kubernetes cluster by kubectl: a manifest applied into a namespace of its own, which is deleted afterwards.

Requests go through `kubectl proxy` to the Service that is named like the Deployment, so that they are spread over the
pods without an ingress.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services.open_load import Target
from tasks.services.process import LOOPBACK, free_port, serve

ROLLOUT_S = 600  # the first pull of the server's image
BODY = '{"inputs": [{"name": "SEED", "shape": [1], "datatype": "INT32", "data": [{seed}]}]}'  # of the model "network"


@dataclass(frozen=True)
class Deployment:
    """A Deployment that runs in `namespace`; `target` sends inferences to its pods."""

    name: str
    namespace: str
    target: Target

    def kubectl(self, *words: str) -> str:
        return kubectl("--namespace", self.namespace, *words)

    def status(self, *kinds: str) -> dict[str, Any]:
        """The status of the objects of that name, by kind ("Deployment")."""
        found = json.loads(self.kubectl("get", *(f"{kind}/{self.name}" for kind in kinds), "--output=json"))
        items = found["items"] if found["kind"] == "List" else [found]
        return {item["kind"]: item.get("status", {}) for item in items}

    def scale(self, replicas: int) -> None:
        """Ask for so many replicas and wait until they are ready."""
        self.kubectl("scale", f"deployment/{self.name}", f"--replicas={replicas}")
        self.kubectl("rollout", "status", f"deployment/{self.name}", f"--timeout={ROLLOUT_S}s")


def kubectl(*words: str) -> str:
    """Output of a kubectl command; UserError with its message when it fails."""
    argv = ["kubectl", *words]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise UserError(done.stderr.strip(), where=" ".join(argv))
    return done.stdout


@contextmanager
def applied(file: Path, scratch: Path) -> Iterator[Deployment]:
    """The one Deployment of `file`, with all that the file holds, rolled out until the block ends."""
    namespace, port = f"infra90-{os.getpid()}", free_port()
    kubectl("create", "namespace", namespace)
    try:
        kubectl("--namespace", namespace, "apply", f"--filename={file}")
        name = kubectl(
            "--namespace", namespace, "get", "deployment", "--output=jsonpath={.items[0].metadata.name}"
        ).strip()
        proxy = ["kubectl", "proxy", f"--port={port}", f"--address={LOOPBACK}"]
        with serve(proxy, log=scratch / "kubectl-proxy.log", ready=lambda: answers(port)):
            service = f"http://{LOOPBACK}:{port}/api/v1/namespaces/{namespace}/services/{name}:http/proxy"
            deployment = Deployment(name, namespace, Target(f"{service}/v2/models/network/infer", BODY))
            deployment.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={ROLLOUT_S}s")
            yield deployment
    finally:
        kubectl("delete", "namespace", namespace, "--wait=false")


def answers(port: int) -> bool:
    with urlopen(f"http://{LOOPBACK}:{port}/version", timeout=5) as answer:
        return bool(answer.status == 200)
