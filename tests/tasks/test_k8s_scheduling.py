"""A GPU Pod's way through a cluster, by a kubectl that answers with what real clusters say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from on_cluster import NODE, items, measured, pod

from tasks import api
from tasks.checks import transcript_image
from tasks.kubernetes import pods_seen, scheduling

POD = "gpu-test-6d4f7b8c9d-x2x7k"
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


def event(number: int, reason: str, message: str = "", name: str = POD) -> dict[str, Any]:
    """Named as client-go names them: with the time in nanoseconds, in hexadecimal."""
    return {"metadata": {"name": f"{name}.{0x18502E1A3B5C7D00 + number:x}"}, "reason": reason, "message": message}


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
