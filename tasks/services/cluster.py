"""A Kubernetes cluster by kubectl: work goes into a namespace of its own, which is deleted afterwards.

Requests go through `kubectl proxy` to the Service that is named like the Deployment, so that they are spread over the
pods without an ingress.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
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
class Namespace:
    """A namespace of this run's own."""

    name: str

    def kubectl(self, *words: str, stdin: str = "") -> str:
        return kubectl("--namespace", self.name, *words, stdin=stdin)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects. Raises UserError with the API server's words when it refuses one."""
        self.kubectl("apply", "--filename=-", stdin=listed(*objects))

    def get(self, *words: str) -> dict[str, Any]:
        """What `kubectl get` answers: an object, or a list under `items`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "--output=json"))
        return found

    def rolled_out(self, deployment: str) -> None:
        """Wait until every replica is available."""
        self.kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={ROLLOUT_S}s")


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
        Namespace(self.namespace).rolled_out(self.name)


def kubectl(*words: str, stdin: str = "") -> str:
    """Output of a kubectl command; UserError with its message when it fails."""
    argv = ["kubectl", *words]
    done = subprocess.run(argv, capture_output=True, text=True, input=stdin, check=False)
    if done.returncode:
        raise UserError(done.stderr.strip(), where=" ".join(argv))
    return done.stdout


def listed(*objects: Mapping[str, Any]) -> str:
    """Objects as one document for kubectl's standard input."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def reachable() -> bool:
    """Whether the current context's API server answers."""
    try:
        kubectl("--request-timeout=3s", "get", "--raw=/readyz")
    except (UserError, OSError):
        return False
    return True


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new namespace until the block ends; what is in it goes with it."""
    name = f"infra90-{os.getpid()}"
    kubectl("create", "namespace", name)
    try:
        yield Namespace(name)
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@contextmanager
def applied(file: Path, scratch: Path) -> Iterator[Deployment]:
    """The one Deployment of `file`, with all that the file holds, rolled out until the block ends."""
    with namespace() as space:
        space.kubectl("apply", f"--filename={file}")
        name = space.kubectl("get", "deployment", "--output=jsonpath={.items[0].metadata.name}").strip()
        port = free_port()
        proxy = ["kubectl", "proxy", f"--port={port}", f"--address={LOOPBACK}"]
        with serve(proxy, log=scratch / "kubectl-proxy.log", ready=lambda: answers(port)):
            service = f"http://{LOOPBACK}:{port}/api/v1/namespaces/{space.name}/services/{name}:http/proxy"
            space.rolled_out(name)
            yield Deployment(name, space.name, Target(f"{service}/v2/models/network/infer", BODY))


def answers(port: int) -> bool:
    with urlopen(f"http://{LOOPBACK}:{port}/version", timeout=5) as answer:
        return bool(answer.status == 200)
