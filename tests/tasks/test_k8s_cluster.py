"""Budgets, limits and ways in on a cluster, by a kubectl that answers with what real clusters say."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from on_cluster import MANIFEST, NODE, items, measured, pod

from runner.preflight import Machine, lacks
from tasks import api
from tasks.checks import k8s_manifest
from tasks.kubernetes import disruption, exposure, exposure_cluster, memory, scheduling

OVER_BUDGET = "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget."
INVALID = (
    'Error: The Pod "oom-0" is invalid: spec.containers[0].resources.requests: Invalid value: "1Gi":'
    " must be less than or equal to memory limit of 512Mi"
)


def test_a_budget_refuses_the_second_eviction(kubectl: Any, tmp_path: Path) -> None:
    two = items(pod("guarded-a", "Running"), pod("guarded-b", "Running"))
    deployment = [json.dumps({"status": {"availableReplicas": number}}) for number in (2, 1, 2)]
    kubectl.answers(
        ("get pods --selector=app=guarded", two), ("get deployment/guarded", deployment),
        ("pods/guarded-b/eviction", OVER_BUDGET),
    )  # fmt: skip
    (row,) = measured(disruption, {}, [{"pdb": "minAvailable:1"}], tmp_path)
    assert row["metrics"]["blocked_evictions"] == 1
    assert row["metrics"]["min_available_pods"] >= 1
    assert row["metrics"]["rollout_time_s"] > 0
    applied = json.loads(kubectl.given()[0])["items"]
    assert [one["kind"] for one in applied] == ["Deployment", "PodDisruptionBudget"]
    assert applied[1]["spec"]["minAvailable"] == 1


def test_an_eviction_that_fails_otherwise_is_no_refusal(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(
        ("get pods", items(pod("guarded-a", "Running"))),
        ("get deployment/guarded", json.dumps({"status": {"availableReplicas": 2}})),
        ("eviction", "Error from server (Forbidden): pods is forbidden: User cannot create resource pods/eviction"),
    )
    with pytest.raises(api.UserError, match="Forbidden"):
        measured(disruption, {}, [{"pdb": "none"}], tmp_path)


ENDED = {
    "reason": "OOMKilled",
    "exitCode": 137,
    "startedAt": "2026-11-22T21:34:25Z",
    "finishedAt": "2026-11-22T21:34:27Z",
}
SAID = ("logs oom-0", "adj 979\nstart 1795383265.245176858")


def container(**state: Any) -> str:
    return json.dumps({"status": {"containerStatuses": [{"state": state}]}})


def test_the_api_server_refuses_the_first_pair_and_the_limit_alone_runs(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(
        ("apply", [INVALID, "pod/oom-0 created"]),
        ("get pod/oom-0", [container(waiting={"reason": "ContainerCreating"}), container(terminated=ENDED)]),
        SAID,
    )
    (row,) = measured(memory, {}, [{"requests_limits": "1Gi/512Mi"}], tmp_path)
    assert row["metrics"] == {
        "oom_killed_bool": 1, "time_to_kill_s": 2, "oom_score_adj": 979, "exit_code": 137, "schema_ok_bool": 1,
        "refused_bool": 1,
    }  # fmt: skip
    assert "must be less than or equal to memory limit of 512Mi" in row["note"]
    written, running = (json.loads(given)["items"][0]["spec"]["containers"][0] for given in kubectl.given())
    assert written["resources"] == {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}
    assert running["resources"] == {"requests": {"memory": "512Mi"}, "limits": {"memory": "512Mi"}}


def test_a_server_error_is_not_taken_for_a_refusal(kubectl: Any, tmp_path: Path) -> None:
    forbidden = "Error from server (Forbidden): pods is forbidden"
    kubectl.answers(("apply", [forbidden, "pod/oom-0 created"]), ("get pod/oom-0", container(terminated=ENDED)), SAID)
    with pytest.raises(api.UserError, match="Forbidden"):
        measured(memory, {}, [{"requests_limits": "512Mi/1Gi"}], tmp_path)


def test_the_ways_into_a_cluster(kubectl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port-forward is a process that listens; the other two addresses are the cluster's own words."""
    kubectl.answers(
        ("get service/exposed", json.dumps({"spec": {"ports": [{"nodePort": 31234}]}})),
        ("get nodes", items(NODE)),
        ("get ingress/exposed", [
            json.dumps({"status": {"loadBalancer": {}}}),
            json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": "192.168.49.2"}]}}}),
        ]),
    )  # fmt: skip
    answers = exposure_cluster.answers
    monkeypatch.setattr(exposure_cluster, "answers", lambda url: "127.0.0.1" not in url or answers(url))
    ctx = api.Context(day=tmp_path, scratch=tmp_path, settings={})
    with exposure_cluster.exposed(["port-forward", "nodeport", "ingress"], "nginx", "nginx", "", ctx) as urls:
        forward, node_port, ingress = urls
        assert answers(forward)
    assert node_port == "http://192.168.49.2:31234"
    assert ingress.startswith("http://192.168.49.2/infra90-")
    kinds = {one["kind"]: one for one in json.loads(kubectl.given()[0])["items"]}
    (rule,) = kinds["Ingress"]["spec"]["rules"]
    assert ingress.endswith(rule["http"]["paths"][0]["path"])
    assert (
        kinds["Service"]["spec"]["selector"].items()
        <= kinds["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    )


def test_the_api_server_has_the_last_word_on_the_manifest(kubectl: Any, tmp_path: Path) -> None:
    work = api.Workspace(day=tmp_path, scratch=tmp_path, settings={})
    kubectl.answers(("get --raw=/readyz", "ok"), ("apply --dry-run=server", "deployment.apps/gpu-test created"))
    taken = k8s_manifest.check(MANIFEST, k8s_manifest.Params(), work)
    assert taken.evidence["api_server"] == "accepted by the cluster's API server"
    quota = "Error from server (Forbidden): exceeded quota: gpus, requested: requests.nvidia.com/gpu=1"
    kubectl.answers(("get --raw=/readyz", "ok"), ("apply --dry-run=server", quota))
    refused = k8s_manifest.check(MANIFEST, k8s_manifest.Params(), work)
    assert not refused.ok
    assert "exceeded quota" in refused.message


@pytest.mark.parametrize("kind", [scheduling, disruption])
def test_without_a_cluster_the_lack_names_the_commands_that_make_one(kind: ModuleType) -> None:
    bare = Machine("host", "Debian", "cpu", 2, 24.0, (), "", "", 100.0)
    params = kind.Params(question="taint") if kind is scheduling else kind.Params()
    (need,) = kind.needs(params)
    (lack,) = [lack for lack in lacks(need, bare) if "cluster" in lack.what]
    assert "kind create cluster" in lack.remedy
    assert "minikube start --driver=docker --gpus=all" in lack.remedy


def test_a_cluster_comes_first_and_the_rest_stands_in() -> None:
    for kind in (memory, exposure):
        native, stand_in = kind.needs(kind.Params())
        assert (native.cluster, native.tier) == (True, "native")
        assert (stand_in.stand_in_for, stand_in.tier) == ("Kubernetes", "stand-in")
    assert memory.needs(memory.Params())[0].unmeasured == ("dies_first_bool",)
