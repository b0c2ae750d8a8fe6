"""A Deployment that is rolled over and then evicted Pod by Pod, with and without a PodDisruptionBudget.

A rollout keeps to its own maxUnavailable and asks no budget; the eviction API, which `kubectl drain` uses for every Pod
of a node, does. All Pods are evicted at once, as if they stood on one node: nothing else on the cluster is disturbed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.services import cluster

CLUSTER = "Kubernetes"
NAME = "guarded"
LABELS = {"app": NAME}
SETTLE_S = 3  # minReadySeconds: a replacement is not available at once
LOOK_S = 0.1
PATIENCE_S = 600.0
REFUSED = "TooManyRequests"  # HTTP 429: the eviction would break the budget


class Params(api.Params):
    replicas: int = Field(default=2, ge=2)
    image: str = "registry.k8s.io/pause:3.10"


class Point(api.Params):
    pdb: Literal["none", "minAvailable:1"] = "none"


METRICS = {
    "min_available_pods": "fewest available Pods from the first eviction until the Deployment was whole again",
    "blocked_evictions": "evictions that the API server refused, of one for each Pod",
    "rollout_time_s": "from the rollout's command until all Pods were new and available (looks every 0.1 s)",
    "rollout_min_available_pods": "fewest available Pods during the rollout",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend=CLUSTER, binaries=("kubectl",), cluster=True)]


def run(params: Params, ctx: api.Context) -> None:
    with cluster.namespace() as space:
        for point in ctx.points:
            space.apply(*objects(params, point))
            space.rolled_out(NAME)
            ctx.record(point, {**rollout(space), **evictions(space, params.replicas)})
            space.kubectl("delete", f"deployment/{NAME}", f"pdb/{NAME}", "--ignore-not-found", "--cascade=foreground")


def objects(params: Params, point: Point) -> list[dict[str, Any]]:
    """The Deployment, and its budget where the point has one."""
    meta = {"name": NAME}
    pod = {"containers": [{"name": "server", "image": params.image}], "terminationGracePeriodSeconds": 1}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    spec = {"replicas": params.replicas, "minReadySeconds": SETTLE_S, "strategy": strategy,
            "selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}, "spec": pod}}  # fmt: skip
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    if point.pdb == "none":
        return [deployment]
    least = int(point.pdb.removeprefix("minAvailable:"))
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta,
              "spec": {"minAvailable": least, "selector": {"matchLabels": LABELS}}}  # fmt: skip
    return [deployment, budget]


def rollout(space: cluster.Namespace) -> dict[str, float]:
    """Replace every Pod by a new one."""
    with watched(space) as seen:
        started = time.monotonic()
        space.kubectl("rollout", "restart", f"deployment/{NAME}")
        space.rolled_out(NAME)
        seconds = time.monotonic() - started
    return {"rollout_time_s": seconds, "rollout_min_available_pods": min(seen())}


def evictions(space: cluster.Namespace, replicas: int) -> dict[str, float]:
    """Ask for the eviction of every Pod, one after the other without waiting, then wait until all is well again."""
    pods = [pod["metadata"]["name"] for pod in space.get("pods", f"--selector=app={NAME}")["items"]
            if "deletionTimestamp" not in pod["metadata"]]  # fmt: skip
    with watched(space) as seen:
        blocked = sum(not evicted(pod, space) for pod in pods)
        whole_again(space, replicas)
    return {"blocked_evictions": blocked, "min_available_pods": min(seen())}


def evicted(pod: str, space: cluster.Namespace) -> bool:
    """Whether the API server let the Pod go. Raises UserError when it says neither yes nor 429."""
    path = f"/api/v1/namespaces/{space.name}/pods/{pod}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": space.name}}
    try:
        space.kubectl("create", f"--raw={path}", "--filename=-", stdin=json.dumps(body))
    except api.UserError as error:
        if REFUSED in error.what or "disruption budget" in error.what:
            return False
        raise
    return True


def whole_again(space: cluster.Namespace, replicas: int) -> None:
    """Wait for the evicted Pods' end and for their successors."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        pods = space.get("pods", f"--selector=app={NAME}")["items"]
        leaving = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
        if not leaving and available(space) == replicas:
            return
        if time.monotonic() > deadline:
            raise api.UserError(f"the Deployment was not whole again within {PATIENCE_S:.0f} s")
        time.sleep(LOOK_S)


def available(space: cluster.Namespace) -> int:
    return int(space.get(f"deployment/{NAME}").get("status", {}).get("availableReplicas", 0))


@contextmanager
def watched(space: cluster.Namespace) -> Iterator[Callable[[], list[int]]]:
    """Look at the available Pods until the block ends; the looks, afterwards. A failure to look is raised there."""
    looks: list[int] = []
    failure: list[api.UserError] = []
    over = threading.Event()

    def look() -> None:
        try:
            while not over.is_set():
                looks.append(available(space))
                over.wait(LOOK_S)
        except api.UserError as error:
            failure.append(error)

    def seen() -> list[int]:
        if failure:
            raise failure[0]
        return looks

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
