"""Day 2 on a cluster, by a kubectl that answers with what real clusters say."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runner.preflight import Machine, lacks
from tasks import api
from tasks.checks import k8s_manifest, transcript_image
from tasks.kubernetes import disruption, exposure, exposure_cluster, memory, pods_seen, scheduling

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "plans" / "week01" / "day02" / "k8s-gpu-demo.yaml"
POD = "gpu-test-6d4f7b8c9d-x2x7k"
NODE = {
    "metadata": {"name": "minikube"},
    "spec": {},
    "status": {
        "allocatable": {"cpu": "16", "nvidia.com/gpu": "1"},
        "addresses": [{"type": "InternalIP", "address": "192.168.49.2"}, {"type": "Hostname", "address": "minikube"}],
    },
}
CPU_NODE = {"metadata": {"name": "cpu"}, "spec": {}, "status": {"allocatable": {"cpu": "16"}}}
DESCRIBED = f"""Name:             {POD}
Namespace:        infra90-1
Priority:         0
Service Account:  default
Node:             minikube/192.168.49.2
Status:           Running
Conditions:
  Type                        Status
  PodReadyToStartContainers   True
  Initialized                 True
  Ready                       True
  ContainersReady             True
  PodScheduled                True
Tolerations:                  node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
                              nvidia.com/gpu:NoSchedule op=Exists
Events:
  Type    Reason     Age   From               Message
  ----    ------     ----  ----               -------
  Normal  Scheduled  95s   default-scheduler  Successfully assigned infra90-1/{POD} to minikube
  Normal  Pulling    94s   kubelet            Pulling image "pytorch/pytorch:2.2.0-cuda12.1-cudnn8-runtime"
  Normal  Pulled     7s    kubelet            Successfully pulled image "pytorch/pytorch:2.2.0-cuda12.1-cudnn8-runtime"
  Normal  Created    7s    kubelet            Created container: server
  Normal  Started    6s    kubelet            Started container server"""
WIDE = f"""NAME                        READY   STATUS    RESTARTS   AGE   IP           NODE       NOMINATED NODE
{POD}   1/1     Running   0          95s   10.244.0.7   minikube   <none>"""
NO_GPU = (
    "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint"
    " {nvidia.com/gpu: present}. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
)
OVER_BUDGET = "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget."
INVALID = (
    'Error: The Pod "oom-0" is invalid: spec.containers[0].resources.requests: Invalid value: "1Gi":'
    " must be less than or equal to memory limit of 512Mi"
)


def items(*found: Any) -> str:
    return json.dumps({"kind": "List", "items": found})


def pod(name: str, phase: str, node: str = "", **status: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True" if node else "False"}]
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase, "conditions": conditions, **status}}


def event(number: int, reason: str, message: str = "", name: str = POD) -> dict[str, Any]:
    """Named as client-go names them: with the time in nanoseconds, in hexadecimal."""
    return {"metadata": {"name": f"{name}.{0x18502E1A3B5C7D00 + number:x}"}, "reason": reason, "message": message}


def measured(kind: ModuleType, params: dict[str, Any], points: list[dict[str, Any]], folder: Path) -> list[Any]:
    """The rows of a kind run in this process as on a cluster; the day's manifest is in its day's folder."""
    chosen = kind.Params.model_validate(params)
    native = kind.needs(chosen)[0]
    for name in ("day", "out", "scratch"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "day" / MANIFEST.name).write_bytes(MANIFEST.read_bytes())
    ctx = api.Context(
        day=folder / "day", scratch=folder / "scratch", settings={}, out=folder / "out", spec="test",
        points=[kind.Point.model_validate(point) for point in points], backend=native.backend, tier=native.tier,
    )  # fmt: skip
    kind.run(chosen, ctx)
    return api.read_rows(ctx.out / "rows.jsonl", "test")


def test_a_gpu_pod_is_followed_until_it_runs_and_its_pictures_are_proved(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(
        ("get nodes", items(CPU_NODE, NODE)),
        ("get pods --selector=app=gpu-test", [
            items(), items(pod(POD, "Pending")),
            items(pod(POD, "Pending", "minikube")), items(pod(POD, "Running", "minikube")),
        ]),
        ("get events", items(
            event(5, "Started"), event(1, "Scheduled"), event(2, "Pulling"), event(4, "Created"), event(3, "Pulled"),
        )),
        ("get pods --output=wide", WIDE), ("describe pod", DESCRIBED), ("config current-context", "minikube"),
    )  # fmt: skip
    (row,) = measured(scheduling, {"question": "events"}, [{"gpu_request": 1}], tmp_path)
    assert row["metrics"]["event_sequence"] == 4
    assert 0 < row["metrics"]["time_to_scheduled_s"] <= row["metrics"]["time_to_running_s"]
    assert row["note"] == "Scheduled > Pulling > Pulled > Created > Started"
    record = tmp_path / "out" / "record.json"
    record.write_text("{}", encoding="utf-8")
    work = api.Workspace(day=tmp_path / "day", scratch=tmp_path, settings={}, records=[record])
    for name, answer in {"kubectl_get_pods": "Running", "kubectl_describe_pod": "Successfully assigned"}.items():
        params = transcript_image.Params(command=["kubectl", name.split("_")[1]], answers=[answer])
        verdict = transcript_image.check(tmp_path / "day" / f"{name}.png", params, work)
        assert verdict.ok, verdict.message
    assert kubectl.asked()[-1].startswith("delete namespace infra90-")


def test_a_pod_that_never_starts_is_told_with_its_last_event(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(
        ("get nodes", items(NODE)), ("get pods", items(pod(POD, "Pending"))),
        ("get events", items(event(1, "FailedScheduling", NO_GPU))),
    )  # fmt: skip
    with pytest.raises(api.UserError, match=r"Insufficient nvidia\.com/gpu"):
        measured(scheduling, {"question": "events", "start_s": 0.5}, [{"gpu_request": 1}], tmp_path)


def test_a_cluster_without_a_gpu_is_named_with_its_remedy(kubectl: Any, tmp_path: Path) -> None:
    kubectl.answers(("get nodes", items(CPU_NODE)))
    with pytest.raises(api.UserError, match=r"none of the cluster's 1 nodes offers nvidia.com/gpu\n.*device plugin"):
        measured(scheduling, {"question": "taint"}, [{"toleration": "present"}], tmp_path)
    assert not [words for words in kubectl.asked() if words.startswith("taint")]


def test_only_a_tolerant_pod_passes_the_taint_which_is_taken_away_again(kubectl: Any, tmp_path: Path) -> None:
    refused, placed = pod("gpu-pod", "Pending"), pod("gpu-pod", "Pending", "minikube")
    kubectl.answers(
        ("get nodes", items(CPU_NODE, NODE)),
        ("get pod/gpu-pod", [json.dumps(refused), json.dumps(placed)]),
        ("get events", [
            items(), items(event(1, "FailedScheduling", NO_GPU, "gpu-pod")),
            items(event(9, "Scheduled", "Successfully assigned", "gpu-pod")),
        ]),
    )  # fmt: skip
    points = [{"toleration": "absent"}, {"toleration": "present"}]
    absent, present = measured(scheduling, {"question": "taint"}, points, tmp_path)
    assert absent["metrics"] == {"placed_node": 0, "pending_bool": 1, "event_reason": 2}
    assert "untolerated taint" in absent["note"]
    assert present["metrics"] == {"placed_node": 2, "pending_bool": 0, "event_reason": 1}
    without, with_one = (json.loads(given)["items"][0]["spec"] for given in kubectl.given())
    assert "tolerations" not in without
    assert with_one["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    taints = [words for words in kubectl.asked() if words.startswith("taint")]
    assert taints == [
        "taint nodes minikube nvidia.com/gpu=present:NoSchedule",
        "taint nodes minikube nvidia.com/gpu=present:NoSchedule-",
    ]


def test_a_taint_that_the_provider_set_stays(kubectl: Any, tmp_path: Path) -> None:
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    kubectl.answers(
        ("get nodes", items({**NODE, "spec": {"taints": [taint]}})),
        ("get pod/gpu-pod", json.dumps(pod("gpu-pod", "Pending", "minikube"))),
        ("get events", items(event(1, "Scheduled", "", "gpu-pod"))),
    )
    measured(scheduling, {"question": "taint"}, [{"toleration": "present"}], tmp_path)
    assert not [words for words in kubectl.asked() if words.startswith("taint")]


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


@pytest.mark.parametrize(
    ("reasons", "taken"),
    [
        (["Scheduled", "Pulled", "Created", "Started"], 4),  # the image was there
        (["FailedScheduling", "Scheduled", "Pulling", "Failed", "BackOff"], 2),
        (["Pulled", "Created", "Started"], 0),  # nobody scheduled it
        ([], 0),
    ],
)
def test_steps_are_counted_in_their_order(reasons: list[str], taken: int) -> None:
    assert pods_seen.steps_taken([pods_seen.Event(reason, "") for reason in reasons]) == taken
