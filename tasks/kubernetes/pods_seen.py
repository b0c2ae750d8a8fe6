"""What a cluster says of a Pod: its events in order, where it is placed, why it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.api import UserError
from tasks.services.cluster import Namespace

LOOK_S = 0.2
STEPS = ({"Scheduled"}, {"Pulling", "Pulled"}, {"Created"}, {"Started"})
SCHEDULER = {"Scheduled": 1, "FailedScheduling": 2}
GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Event:
    reason: str
    message: str


def events(space: Namespace, pod: str) -> list[Event]:
    """A Pod's events, oldest first: their names end with the nanosecond of their making, in hexadecimal."""
    fields = f"--field-selector=involvedObject.kind=Pod,involvedObject.name={pod}"
    found = space.get("events", fields)["items"]
    ordered = sorted(found, key=lambda event: int(event["metadata"]["name"].rpartition(".")[2], 16))
    return [Event(event["reason"], event.get("message", "")) for event in ordered]


def steps_taken(seen: Sequence[Event]) -> int:
    """How many of scheduled, image there, created, started came, in this order."""
    done = 0
    for event in seen:
        if done < len(STEPS) and event.reason in STEPS[done]:
            done += 1
    return done


def sequence(seen: Sequence[Event]) -> str:
    return " > ".join(event.reason for event in seen)


def condition(pod: Mapping[str, Any], name: str) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == name and one["status"] == "True" for one in conditions)


def running(pod: Mapping[str, Any]) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Running")


def until(look: Callable[[], Any], patience_s: float) -> Any:
    """What `look` sees once it sees something; None when it did not in time."""
    deadline = time.monotonic() + patience_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_S)
    return seen


def gpu_nodes(space: Namespace) -> list[dict[str, Any]]:
    """Nodes whose kubelet offers GPUs. Raises UserError when there is none."""
    nodes: list[dict[str, Any]] = space.get("nodes")["items"]
    found = [node for node in nodes if int(node["status"].get("allocatable", {}).get(GPU, "0")) > 0]
    if not found:
        raise UserError(
            f"none of the cluster's {len(nodes)} nodes offers {GPU}", where="kubectl get nodes",
            remedy="run NVIDIA's device plugin on a node with a GPU:"
            " helm upgrade -i nvdp nvidia-device-plugin --repo https://nvidia.github.io/k8s-device-plugin"
            " --namespace nvidia-device-plugin --create-namespace",
        )  # fmt: skip
    return found
