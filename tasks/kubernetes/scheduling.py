"""A Pod that asks for a GPU: the events until it runs, and a taint that only a toleration passes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.documents import transcript
from tasks.kubernetes import pods_seen
from tasks.kubernetes.gpu_manifest import Workload, gpu_workload
from tasks.kubernetes.pods_seen import GPU, SCHEDULER
from tasks.services import cluster
from tasks.services.cluster import Namespace

CLUSTER = "Kubernetes with a GPU node"
ON_NO_NODE, ON_ANOTHER, ON_A_GPU_NODE = 0, 1, 2
POD = "gpu-pod"


class Params(api.Params):
    """`start_s` covers the first pull of the image, `schedule_s` the scheduler's first word on a Pod."""

    question: Literal["events", "taint"]
    manifest: str = "k8s-gpu-demo.yaml"
    taint: str = "nvidia.com/gpu=present:NoSchedule"
    start_s: float = Field(default=900, gt=0)
    schedule_s: float = Field(default=60, gt=0)


class Point(api.Params):
    gpu_request: int = Field(default=1, ge=1)
    toleration: Literal["absent", "present"] = "present"


METRICS = {
    "event_sequence": "how many of Scheduled, Pulling/Pulled, Created, Started came in this order (4: all of them)",
    "time_to_scheduled_s": "from the manifest's acceptance until the Pod was seen scheduled (looks every 0.2 s)",
    "time_to_running_s": "from the manifest's acceptance until the Pod was seen running (looks every 0.2 s)",
    "placed_node": "0: on no node, 1: on a node without a GPU, 2: on a GPU node (its name is in the note)",
    "pending_bool": "1 when the Pod was still Pending after the scheduler had spoken",
    "event_reason": "the scheduler's last event on the Pod: 1 Scheduled, 2 FailedScheduling (its text is in the note)",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend=CLUSTER, binaries=("kubectl",), cluster=True)]


def run(params: Params, ctx: api.Context) -> None:
    workload = gpu_workload(ctx.day / params.manifest)
    with cluster.namespace() as space:
        nodes = pods_seen.gpu_nodes(space)
        if params.question == "events":
            for point in ctx.points:
                arrival(params, point, workload, space, nodes, ctx)
            return
        with tainted([node for node in nodes if not has_taint(node, params.taint)], params.taint):
            for point in ctx.points:
                placement(params, point, workload, space, nodes, ctx)


def arrival(
    params: Params, point: Point, workload: Workload, space: Namespace, nodes: Sequence[Any], ctx: api.Context
) -> None:
    """Apply the learner's file and follow its GPU Pod until it runs; keep what kubectl then says."""
    file = ctx.day / params.manifest
    if workload.gpus != point.gpu_request:
        what = f"asks for {workload.gpus} GPUs but the experiment measures {point.gpu_request}"
        raise api.UserError(what, where=str(file), remedy="change the limit, or the matrix")
    space.kubectl("apply", f"--filename={file}")
    applied = time.monotonic()
    scheduled = followed(space, workload, "PodScheduled", applied, params.start_s)
    running = followed(space, workload, "Ready", applied, params.start_s)
    name = gpu_pod(space, workload)["metadata"]["name"]
    seen = pods_seen.events(space, name)
    keep_pictures(space, name, nodes, ctx)
    metrics = {
        "event_sequence": pods_seen.steps_taken(seen), "time_to_scheduled_s": scheduled, "time_to_running_s": running,
    }  # fmt: skip
    ctx.record(point, metrics, note=pods_seen.sequence(seen))


def gpu_pod(space: Namespace, workload: Workload) -> dict[str, Any]:
    """The Pod that the workload made; {} while there is none."""
    labels = ",".join(f"{key}={value}" for key, value in workload.labels.items())
    pods = space.get("pods", f"--selector={labels}")["items"]
    return dict(pods[0]) if pods else {}


def followed(space: Namespace, workload: Workload, condition: str, applied: float, patience_s: float) -> float:
    """Seconds from `applied` until the Pod has the condition; UserError with its last event when it has not in time."""
    reached = {"PodScheduled": lambda pod: pods_seen.condition(pod, "PodScheduled"), "Ready": pods_seen.running}
    if not pods_seen.until(lambda: reached[condition](gpu_pod(space, workload)), patience_s):
        pod = gpu_pod(space, workload)
        last = pods_seen.events(space, pod["metadata"]["name"])[-1:] if pod else []
        told = f"{last[0].reason}: {last[0].message}" if last else "no event says why"
        raise api.UserError(f"the GPU Pod was not {condition} within {patience_s:.0f} s", where=told)
    return time.monotonic() - applied


def keep_pictures(space: Namespace, pod: str, nodes: Sequence[Mapping[str, Any]], ctx: api.Context) -> None:
    """What `kubectl get pods` and `describe` say, kept as text and drawn as the day's pictures."""
    offered = [f"{node['status']['allocatable'][GPU]} x {GPU} on {node['metadata']['name']}" for node in nodes]
    context = f"Kubernetes context {cluster.kubectl('config', 'current-context').strip()}"
    for name, words in {
        "kubectl_get_pods": ("get", "pods", "--output=wide"), "kubectl_describe_pod": ("describe", "pod", pod),
    }.items():  # fmt: skip
        argv = ["kubectl", "--namespace", space.name, *words]
        output, at = space.kubectl(*words), time.time()
        said = transcript.Transcript(argv, output, 0, context, offered, ctx.backend, ctx.tier, at)
        transcript.keep(said, ctx.out, name)
        (ctx.day / f"{name}.png").write_bytes(transcript.render(said))


def placement(
    params: Params, point: Point, workload: Workload, space: Namespace, nodes: Sequence[Any], ctx: api.Context
) -> None:
    """One Pod of the learner's, with or without its tolerations, while the GPU nodes bear the taint."""
    space.apply(*lone_pod(workload, point.toleration == "present", params))
    spoken = pods_seen.until(lambda: scheduler_events(space), params.schedule_s)
    if not spoken:
        raise api.UserError(f"the scheduler said nothing of the Pod within {params.schedule_s:.0f} s")
    pod, last = space.get(f"pod/{POD}"), spoken[-1]
    node = pod["spec"].get("nodeName", "")
    with_gpu = node in {node["metadata"]["name"] for node in nodes}
    metrics = {
        "placed_node": ON_A_GPU_NODE if with_gpu else ON_ANOTHER if node else ON_NO_NODE,
        "pending_bool": pod["status"].get("phase") == "Pending" and not node,
        "event_reason": SCHEDULER[last.reason],
    }
    ctx.record(point, metrics, note=f"{node or 'no node'}; {last.reason}: {last.message}")
    space.kubectl("delete", f"pod/{POD}", "--grace-period=1")


def scheduler_events(space: Namespace) -> list[pods_seen.Event]:
    return [event for event in pods_seen.events(space, POD) if event.reason in SCHEDULER]


def lone_pod(workload: Workload, tolerant: bool, params: Params) -> list[dict[str, Any]]:
    """The workload's Pod by itself: the same GPU limit, and a container that only waits."""
    image = workload.containers[0]["image"]
    limits = {GPU: str(workload.gpus)}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "containers": [{"name": "wait", "image": image, "command": ["sleep", "600"], "resources": {"limits": limits}}],
    }
    if tolerant:
        written = workload.pod["spec"].get("tolerations")
        if not written:
            raise api.UserError("its GPU Pod has no tolerations", where=params.manifest, remedy="add one for the taint")
        spec["tolerations"] = written
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": spec}]


def has_taint(node: Mapping[str, Any], taint: str) -> bool:
    """Many providers taint their GPU nodes so already; such a taint is neither set nor taken away."""
    return taint in [f"{one['key']}={one.get('value', '')}:{one['effect']}" for one in node["spec"].get("taints", [])]


@contextmanager
def tainted(nodes: Sequence[Mapping[str, Any]], taint: str) -> Iterator[None]:
    """The taint on these nodes until the block ends. It keeps Pods from coming (NoSchedule); it drives none away."""
    names = [node["metadata"]["name"] for node in nodes]
    if not names:
        yield
        return
    try:
        cluster.kubectl("taint", "nodes", *names, taint)
        yield
    finally:
        cluster.kubectl("taint", "nodes", *names, f"{taint}-")
