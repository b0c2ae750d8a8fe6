"""Proves an `hpa.yaml`: every object valid by Kubernetes' own schemas, and an autoscaler that can do its work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.kubernetes.lines import Document
from tasks.kubernetes.manifest import metric_is
from tasks.kubernetes.schemas import Problem, parsed, told

API = "autoscaling/v2"


class Params(Base):
    cpu_target_pct: int = 50


def needs(params: Params) -> Needs:
    return Needs("kubernetes-validate", modules=("kubernetes_validate",))


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """Every problem with its line; the schemas first, since the rest relies on them."""
    try:
        parts, problems = parsed(file)
    except UserError as error:
        return Verdict(False, str(error))
    scalers = [part for part in parts if part.kind == "HorizontalPodAutoscaler"]
    if not problems and len(scalers) != 1:
        return Verdict(False, f"{file.name}: {len(scalers)} HorizontalPodAutoscalers where there should be one")
    if not problems:
        problems = list(scaler_problems(scalers[0], parts, params))
    if problems:
        return Verdict(False, told(file, problems))
    kinds = ", ".join(part.kind for part in parts)
    spec = scalers[0].data["spec"]
    evidence = {"kinds": kinds, "min": spec["minReplicas"], "max": spec["maxReplicas"]}
    return Verdict(True, f"valid by Kubernetes' schemas: {kinds}; CPU at {params.cpu_target_pct}% and QPS", evidence)


def scaler_problems(scaler: Document, parts: Sequence[Document], params: Params) -> Iterator[Problem]:
    spec = scaler.data["spec"]
    if scaler.data["apiVersion"] != API:
        yield scaler.line(["apiVersion"]), f"apiVersion must be {API}"
    yield from bound_problems(scaler, spec)
    yield from metric_problems(scaler, spec, params)
    yield from target_problems(scaler, spec, parts)
    if "stabilizationWindowSeconds" not in spec.get("behavior", {}).get("scaleDown", {}):
        line = scaler.line(["spec", "behavior", "scaleDown"])
        yield line, "behavior.scaleDown.stabilizationWindowSeconds is not set"


def bound_problems(scaler: Document, spec: dict[str, Any]) -> Iterator[Problem]:
    if "minReplicas" not in spec:
        yield scaler.line(["spec"]), "minReplicas is not set"
    elif not 1 <= spec["minReplicas"] < spec["maxReplicas"]:
        line = scaler.line(["spec", "maxReplicas"])
        yield line, f"minReplicas {spec['minReplicas']} must be at least 1 and below maxReplicas {spec['maxReplicas']}"


def metric_problems(scaler: Document, spec: dict[str, Any], params: Params) -> Iterator[Problem]:
    metrics = spec.get("metrics", [])
    places = {metric_is(metric): index for index, metric in enumerate(metrics)}
    if "cpu" not in places:
        yield scaler.line(["spec", "metrics"]), "no Resource metric for cpu"
    else:
        target = metrics[places["cpu"]]["resource"]["target"]
        if target.get("averageUtilization") != params.cpu_target_pct:
            line = scaler.line(["spec", "metrics", places["cpu"], "resource", "target", "averageUtilization"])
            yield line, f"the CPU target must be averageUtilization: {params.cpu_target_pct}"
    if "qps" not in places:
        yield scaler.line(["spec", "metrics"]), "no Pods, Object or External metric of requests per second"
    elif "averageValue" not in (target := source(metrics[places["qps"]])["target"]):
        line = scaler.line(["spec", "metrics", places["qps"]])
        yield line, f"the QPS target must be an averageValue, for each pod, not {target.get('type')}"


def source(metric: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = metric[metric["type"].lower()]
    return found


def target_problems(scaler: Document, spec: dict[str, Any], parts: Sequence[Document]) -> Iterator[Problem]:
    aim = spec["scaleTargetRef"]
    line = scaler.line(["spec", "scaleTargetRef", "name"])
    deployments = {part.data["metadata"]["name"]: part for part in parts if part.kind == "Deployment"}
    if (aim["kind"], aim.get("apiVersion")) != ("Deployment", "apps/v1"):
        yield line, "scaleTargetRef must be apiVersion apps/v1, kind Deployment"
    elif aim["name"] not in deployments:
        known = ", ".join(deployments) or "none"
        yield line, f"scaleTargetRef names {aim['name']!r}, which is no Deployment of this file (there: {known})"
    else:
        yield from request_problems(deployments[aim["name"]])


def request_problems(deployment: Document) -> Iterator[Problem]:
    """CPU utilization is a percentage of the request: without one the autoscaler has no metric."""
    path = ["spec", "template", "spec", "containers"]
    containers = deployment.data["spec"]["template"]["spec"]["containers"]
    for index, container in enumerate(containers):
        if "cpu" not in container.get("resources", {}).get("requests", {}):
            yield deployment.line([*path, index]), f"container {container['name']!r} has no resources.requests.cpu"
