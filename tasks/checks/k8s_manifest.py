"""Proves a GPU demo's manifest: every object valid by Kubernetes' schemas, a GPU asked for, a Service that finds it.

With a reachable cluster its API server has the last word (`kubectl apply` of the whole file, as a dry run there).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.kubernetes.gpu_manifest import Workload, workloads
from tasks.kubernetes.lines import Document
from tasks.kubernetes.pods_seen import GPU
from tasks.kubernetes.schemas import Problem, parsed, refusals, told
from tasks.services import cluster

EFFECTS = ("", "NoSchedule")


class Params(Base):
    """`gpus`: how many one Pod asks for; `taint` is the key that a GPU node's taint has."""

    gpus: int = 1
    taint: str = GPU


def needs(params: Params) -> Needs:
    return Needs("kubernetes-validate", modules=("kubernetes_validate",))


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """Every problem with its line; the schemas first, since the rest relies on them."""
    try:
        parts, problems = parsed(file)
    except UserError as error:
        return Verdict(False, str(error))
    if not parts:
        return Verdict(False, f"{file.name} holds no Kubernetes object")
    if not problems:
        problems = list(meaning_problems(parts, params))
    if problems:
        return Verdict(False, told(file, problems))
    try:
        judged = api_server(file)
    except UserError as error:
        return Verdict(False, f"the API server refuses it: {error.what}")
    kinds = ", ".join(part.kind for part in parts)
    message = f"valid by Kubernetes' schemas: {kinds}; {params.gpus} GPU; the Service finds its Pod; {judged}"
    return Verdict(True, message, {"kinds": kinds, "gpus": params.gpus, "api_server": judged})


def api_server(file: Path) -> str:
    """What a cluster says of the file. Raises UserError in its words when it refuses."""
    if not cluster.reachable():
        return "no cluster to ask"
    with cluster.namespace() as space:
        space.kubectl("apply", "--dry-run=server", f"--filename={file}")
    return "accepted by the cluster's API server"


def meaning_problems(parts: Sequence[Document], params: Params) -> Iterator[Problem]:
    pods = workloads(parts)
    if refused := [problem for one in pods for problem in resource_problems(one)]:
        yield from refused
        return
    for one in pods:
        yield from own_selector_problems(one)
    if not (gpu := [one for one in pods if asks(one)]):
        yield 1, f"no Pod or Deployment asks for {GPU}"
        return
    for one in gpu:
        yield from gpu_problems(one, params)
    yield from service_problems([part for part in parts if part.kind == "Service"], pods, gpu)
    for budget in (part for part in parts if part.kind == "PodDisruptionBudget"):
        selector = (budget.data["spec"].get("selector") or {}).get("matchLabels") or {}
        if not any(selects(selector, one.labels) for one in pods):
            yield (
                budget.line(["spec", "selector"]),
                f"the budget's selector {selector} matches no Pod of this file",
            )


def asks(workload: Workload) -> bool:
    kinds = [one.get("resources", {}).get(side, {}) for one in workload.containers for side in ("requests", "limits")]
    return any(GPU in kind for kind in kinds)


def resource_problems(workload: Workload) -> Iterator[Problem]:
    """What passes every schema and is refused on arrival."""
    for index, container in enumerate(workload.containers):
        line = workload.part.line([*workload.path, "spec", "containers", index, "resources"])
        for refusal in refusals(container.get("resources", {})):
            yield line, f"container {container['name']!r}: {refusal}"


def own_selector_problems(workload: Workload) -> Iterator[Problem]:
    if workload.part.kind == "Deployment":
        selector = workload.part.data["spec"]["selector"].get("matchLabels") or {}
        if not selects(selector, workload.labels):
            line = workload.part.line(["spec", "selector"])
            yield line, f"the Deployment's selector {selector} does not match its own Pods {workload.labels}"


def gpu_problems(workload: Workload, params: Params) -> Iterator[Problem]:
    line = workload.part.line([*workload.path, "spec", "containers"])
    if workload.gpus != params.gpus:
        yield line, f"the Pod is limited to {workload.gpus} of {GPU}, not {params.gpus}"
    if not any(tolerates(one, params.taint) for one in workload.pod["spec"].get("tolerations", [])):
        yield workload.part.line([*workload.path, "spec"]), f"no toleration of the taint {params.taint}:NoSchedule"


def tolerates(toleration: Mapping[str, Any], key: str) -> bool:
    if toleration.get("effect", "") not in EFFECTS:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return bool(toleration.get("key", key) == key)
    return bool(toleration.get("key") == key)


def service_problems(
    services: Sequence[Document], pods: Sequence[Workload], gpu: Sequence[Workload]
) -> Iterator[Problem]:
    """Every Service must find Pods and a port of theirs; a NodePort one must find the GPU's."""
    for service in services:
        selector = service.data["spec"].get("selector") or {}
        found = [one for one in pods if selector and selects(selector, one.labels)]
        if not found:
            yield service.line(["spec", "selector"]), f"the Service's selector {selector} matches no Pod of this file"
            continue
        known = {port for one in found for port in ports(one)}
        for index, port in enumerate(service.data["spec"].get("ports", [])):
            if (aim := port.get("targetPort", port["port"])) not in known:
                there = ", ".join(map(str, sorted(known, key=str))) or "none"
                yield (
                    service.line(["spec", "ports", index, "targetPort"]),
                    (f"targetPort {aim!r} is no port of the Pod (there: {there})"),
                )
    outside = [one.data["spec"].get("selector") or {} for one in services if one.data["spec"].get("type") == "NodePort"]
    if not any(selects(selector, one.labels) for selector in outside for one in gpu):
        yield gpu[0].part.line(), "no Service of type NodePort leads to the GPU Pod"


def ports(workload: Workload) -> Iterator[Any]:
    """Container ports by number and by name."""
    for container in workload.containers:
        for port in container.get("ports", []):
            yield port["containerPort"]
            if "name" in port:
                yield port["name"]


def selects(selector: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    return bool(selector) and selector.items() <= labels.items()
