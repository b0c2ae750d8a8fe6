"""What an `hpa.yaml` asks for: a HorizontalPodAutoscaler and the Deployment that it scales."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.kubernetes.hpa import DEFAULT_DOWN, DEFAULT_UP, Bounds, Policy, Rules
from tasks.kubernetes.quantities import amount

QPS_METRIC = re.compile(r"qps|(requests?|queries|inferences?)_per_second|_rps$", re.IGNORECASE)


@dataclass(frozen=True)
class Autoscaler:
    """`cpu_target_pct` is a percentage of one pod's `cpu_request` (cores), `qps_target` requests per second and pod."""

    deployment: str
    bounds: Bounds
    cpu_target_pct: float
    qps_target: float
    cpu_request: float

    def with_cooldown(self, window_s: float) -> Autoscaler:
        down = replace(self.bounds.down, window_s=window_s)
        return replace(self, bounds=replace(self.bounds, down=down))


def read(file: Path) -> Autoscaler:
    """Read `file`; UserError when something that the experiments need is not in it (`run check` says more)."""
    import yaml

    try:
        parts = [part for part in yaml.safe_load_all(file.read_text(encoding="utf-8")) if part]
        scaler = next(part["spec"] for part in parts if part["kind"] == "HorizontalPodAutoscaler")
        name = scaler["scaleTargetRef"]["name"]
        deployments = [part for part in parts if part["kind"] == "Deployment"]
        pods = next(part["spec"]["template"]["spec"] for part in deployments if part["metadata"]["name"] == name)
        return Autoscaler(
            deployment=name,
            bounds=bounds(scaler),
            cpu_target_pct=float(target(scaler, "cpu")["averageUtilization"]),
            qps_target=amount(target(scaler, "qps")["averageValue"]),
            cpu_request=sum(amount(one["resources"]["requests"]["cpu"]) for one in pods["containers"]),
        )
    except (OSError, ValueError, TypeError, KeyError, StopIteration, yaml.YAMLError) as error:
        raise UserError(
            f"does not describe an autoscaler with a CPU and a QPS target ({type(error).__name__}: {error})",
            where=str(file), remedy=f"prove it with: run check {file.parent.name}",
        ) from error  # fmt: skip


def bounds(scaler: Mapping[str, Any]) -> Bounds:
    behavior = scaler.get("behavior", {})
    return Bounds(
        least=scaler.get("minReplicas", 1), most=scaler["maxReplicas"],
        up=rules(behavior.get("scaleUp", {}), DEFAULT_UP), down=rules(behavior.get("scaleDown", {}), DEFAULT_DOWN),
    )  # fmt: skip


def rules(written: Mapping[str, Any], default: Rules) -> Rules:
    policies = tuple(Policy(one["type"], one["value"], one["periodSeconds"]) for one in written.get("policies", ()))
    return Rules(
        window_s=written.get("stabilizationWindowSeconds", default.window_s),
        policies=policies or default.policies,
        select=written.get("selectPolicy", default.select),
    )


def target(scaler: Mapping[str, Any], wanted: str) -> Mapping[str, Any]:
    """The target of the metric `wanted`: "cpu" or "qps". KeyError when there is none."""
    for metric in scaler["metrics"]:
        if metric_is(metric) == wanted:
            found: Mapping[str, Any] = metric[metric["type"].lower()]["target"]
            return found
    raise KeyError(f"no {wanted} metric")


def metric_is(metric: Mapping[str, Any]) -> str:
    """ "cpu", "qps" or "other"."""
    source = metric[metric["type"].lower()]
    if metric["type"] == "Resource":
        return "cpu" if source["name"] == "cpu" else "other"
    return "qps" if QPS_METRIC.search(str(source.get("metric", {}).get("name", ""))) else "other"
