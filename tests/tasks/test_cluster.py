"""What is asked of a cluster, seen by a kubectl that writes down its arguments and answers from a table."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.chaos import fleets
from tasks.kubernetes import autoscale, cluster_plant, manifest
from tasks.kubernetes.plant import Seen
from tasks.services import cluster

MANIFEST = Path(__file__).resolve().parents[2] / "plans" / "week03" / "day20" / "hpa.yaml"
STATUS = {
    "kind": "List",
    "items": [
        {"kind": "Deployment", "status": {"readyReplicas": 2}},
        {
            "kind": "HorizontalPodAutoscaler",
            "status": {
                "desiredReplicas": 3,
                "currentMetrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 71}}},
                    {
                        "type": "Pods",
                        "pods": {
                            "metric": {"name": "triton_requests_per_second"},
                            "current": {"averageValue": "180500m"},
                        },
                    },
                ],
            },
        },
    ],
}


def test_the_file_is_applied_in_a_namespace_of_its_own_which_is_deleted(kubectl: Any, tmp_path: Path) -> None:
    namespace = f"infra90-{os.getpid()}"
    with cluster.applied(MANIFEST, tmp_path) as deployment:
        assert deployment.target.url.endswith(
            f"/namespaces/{namespace}/services/triton:http/proxy/v2/models/network/infer"
        )
    asked = [line for line in kubectl.asked() if not line.startswith("proxy")]
    assert asked[0] == f"create namespace {namespace}"
    assert asked[1] == f"--namespace {namespace} apply --filename={MANIFEST}"
    assert asked[-2] == f"--namespace {namespace} rollout status deployment/triton --timeout=600s"
    assert asked[-1] == f"delete namespace {namespace} --wait=false"


def test_the_namespace_is_deleted_when_the_file_is_refused(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(("apply", "Error: admission webhook denied the request"))
    with pytest.raises(UserError, match=r"kubectl .*apply"), cluster.applied(MANIFEST, tmp_path):
        pass
    assert kubectl.asked()[-1].startswith("delete namespace infra90-")


def test_the_autoscalers_own_view_is_read(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(("get deployment/triton hpa/triton", json.dumps(STATUS)))
    with cluster_plant.applied(MANIFEST, tmp_path) as plant:
        assert plant.observe() == Seen(running=2, desired=3, cpu_pct=71, qps=361)


def test_a_metric_that_the_cluster_does_not_have_is_not_invented(kubectl: Any, tmp_path: Path) -> None:
    bare = {"kind": "List", "items": [{"kind": "Deployment"}, {"kind": "HorizontalPodAutoscaler", "status": {}}]}
    kubectl.answers(("get deployment/triton hpa/triton", json.dumps(bare)))
    with cluster_plant.applied(MANIFEST, tmp_path) as plant:
        assert plant.observe() == Seen(running=0, desired=0, cpu_pct=None, qps=None)


def test_a_reset_puts_the_cooldown_in_force_and_scales_to_the_least(kubectl: Any, tmp_path: Path) -> None:
    with cluster_plant.applied(MANIFEST, tmp_path) as plant:
        plant.reset(manifest.read(MANIFEST).with_cooldown(60))
        patch = '--patch={"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}}'
        patched, scaled, waited = (line.split(" ", 2)[2] for line in kubectl.asked()[-3:])
        assert patched == f"patch hpa/triton --type=merge {patch}"
        assert scaled == "scale deployment/triton --replicas=1"
        assert waited.startswith("rollout status deployment/triton")


def test_the_drill_deletes_one_pod_by_force_and_no_autoscaler_interferes(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(("get pods", "pod/triton-a\npod/triton-b"))
    with fleets.deployed(2, MANIFEST, tmp_path) as fleet:
        fleet.kill_one(random.Random(90))
    asked = kubectl.asked()
    assert any("delete hpa --all" in line for line in asked)
    assert any("scale deployment/triton --replicas=2" in line for line in asked)
    assert sum("delete pod/triton-" in line and "--grace-period=0 --force" in line for line in asked) == 1


def test_a_cluster_comes_first_and_ray_only_stands_in() -> None:
    native, stand_in = autoscale.needs(autoscale.Params(question="curve"))
    assert (native.backend, native.cluster, native.tier) == ("Kubernetes", True, "native")
    assert (stand_in.backend, stand_in.stand_in_for, stand_in.tier) == ("Ray Serve", "Kubernetes", "stand-in")
