"""An nginx server on a cluster, reached by port-forward, NodePort and Ingress."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.request import urlopen

from tasks import api
from tasks.services import cluster
from tasks.services.process import LOOPBACK, free_port, serve

NAME, ANSWER = "exposed", "served"
LABELS = {"app": NAME}
# Answers whatever is asked: an Ingress shares its controller by path.
CONFIG = f"server {{ listen 8080; location / {{ return 200 '{ANSWER}'; }} }}\n"
READY_S = 120.0
LOOK_S = 0.5


def objects(image: str, ingress_class: str, path: str) -> list[dict[str, Any]]:
    """ConfigMap, Deployment, Service and Ingress of the server; the Ingress takes what begins with `path`."""
    container = {
        "name": "server", "image": image, "ports": [{"containerPort": 8080, "name": "http"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/nginx/conf.d"}],
    }  # fmt: skip
    pod = {"containers": [container], "volumes": [{"name": "config", "configMap": {"name": NAME}}]}
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    backend = {"service": {"name": NAME, "port": {"name": "http"}}}
    rule = {"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return [
        made("v1", "ConfigMap", data={"default.conf": CONFIG}),
        made("apps/v1", "Deployment", spec={"selector": {"matchLabels": LABELS}, "template": template}),
        made("v1", "Service", spec={"type": "NodePort", "selector": LABELS, "ports": ports}),
        made("networking.k8s.io/v1", "Ingress", spec={"ingressClassName": ingress_class, "rules": [rule]}),
    ]


def made(api_version: str, kind: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": NAME}, **parts}


@contextmanager
def exposed(
    exposures: Sequence[str], image: str, ingress_class: str, ingress_address: str, ctx: api.Context
) -> Iterator[list[str]]:
    """The server's URL by each way in, until the block ends; each has answered."""
    with ExitStack() as stack:
        space = stack.enter_context(cluster.namespace())
        path = f"/{space.name}"
        space.apply(*objects(image, ingress_class, path))
        space.rolled_out(NAME)
        ways: dict[str, Callable[[], str]] = {
            "port-forward": lambda: stack.enter_context(forwarded(space, ctx)),
            "nodeport": lambda: node_port(space),
            "ingress": lambda: f"{ingress_address or controller(space)}{path}",
        }
        urls = [f"http://{ways[exposure]()}" for exposure in exposures]
        for url in urls:
            until(functools.partial(answers, url), f"{url} did not answer {ANSWER!r}")
        yield urls


@contextmanager
def forwarded(space: cluster.Namespace, ctx: api.Context) -> Iterator[str]:
    port = free_port()
    argv = ["kubectl", "--namespace", space.name, "port-forward", f"--address={LOOPBACK}", f"service/{NAME}"]
    address = f"{LOOPBACK}:{port}"
    with serve([*argv, f"{port}:80"], log=ctx.scratch / "forward.log", ready=lambda: answers(f"http://{address}")):
        yield address


def node_port(space: cluster.Namespace) -> str:
    """The first ready node's internal address and the port that the Service got on all of them."""
    port = space.get(f"service/{NAME}")["spec"]["ports"][0]["nodePort"]
    for node in space.get("nodes")["items"]:
        for address in node["status"]["addresses"]:
            if address["type"] == "InternalIP":
                return f"{address['address']}:{port}"
    raise api.UserError("no node has an InternalIP")


def controller(space: cluster.Namespace) -> str:
    """The address that the Ingress controller gave itself. Raises UserError when there is none in time."""

    def told() -> str:
        status = space.get(f"ingress/{NAME}")["status"]
        given = (status.get("loadBalancer", {}).get("ingress") or [{}])[0]
        return str(given.get("ip") or given.get("hostname") or "")

    return str(until(told, "no Ingress controller has given the Ingress an address"))


def until(look: Callable[[], Any], lack: str) -> Any:
    """Look until there is something to see; UserError when there is not in time."""
    deadline = time.monotonic() + READY_S
    while not (seen := look()):
        if time.monotonic() > deadline:
            remedy = "install ingress-nginx, and set ingress_address where it has none (kind: localhost:80)"
            raise api.UserError(f"{lack} within {READY_S:.0f} s", remedy=remedy)
        time.sleep(LOOK_S)
    return seen


def answers(url: str) -> bool:
    """Whether the server itself answers; an ingress controller that does not know the path yet says 404."""
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.read().decode() == ANSWER)
    except OSError:  # refused, or an HTTP error
        return False
