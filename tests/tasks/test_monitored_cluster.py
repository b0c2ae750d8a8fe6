"""The monitoring drill on a cluster: its manifest is valid, and what is asked of kubectl is what the drill means."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tasks.chaos import kill, monitored_cluster
from tasks.chaos.monitored_cluster import ClusterPlant
from tasks.services import cluster
from tasks.services.cluster import Namespace

MANIFEST = Path(__file__).resolve().parents[2] / "plans" / "week02" / "day14" / "monitoring_drill.yaml"


def pod(name: str, uid: str, ready: bool = True) -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": name, "uid": uid}, "status": {"conditions": [condition]}}


class Answers:
    """kubectl, with its answers given by the words that they answer to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known: dict[str, Any] = {"statefulset/triton": {"spec": {"replicas": 2}}}

    def __call__(self, *words: str, stdin: str = "") -> str:
        line = " ".join(words)
        self.asked.append(line)
        return json.dumps(next((answer for part, answer in self.known.items() if part in line), {}))


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers()
    monkeypatch.setattr(cluster, "kubectl", answers)
    return answers


@pytest.fixture
def plant() -> ClusterPlant:
    return ClusterPlant(Namespace("space"), "http://127.0.0.1:1")


def test_a_deleted_pod_is_made_good_when_another_is_ready(kubectl: Answers, plant: ClusterPlant) -> None:
    kubectl.known["app=triton"] = {"items": [pod("triton-0", "a"), pod("triton-1", "b")]}
    plant.kill("pod", random.Random(90))
    deleted = kubectl.asked[-1]
    assert deleted.startswith("--namespace space delete pod/triton-")
    assert "--force" in deleted
    victim = 0 if "triton-0" in deleted else 1
    others = [pod("triton-0", "a"), pod("triton-1", "b")]
    kubectl.known["app=triton"] = {"items": others}
    assert not plant.restored("pod", 0)  # it is still listed
    del others[victim]
    assert not plant.restored("pod", 0)  # one is missing
    others.append(pod("new", "c", ready=False))
    assert not plant.restored("pod", 0)
    others[-1] = pod("new", "c")
    assert plant.restored("pod", 0)


def test_prometheus_is_back_when_it_has_scraped_again(
    kubectl: Answers, plant: ClusterPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl.known["app=prometheus"] = {"items": [pod("p", "new")]}
    newest = [5.0]
    monkeypatch.setattr(monitored_cluster.scrapes, "newest", lambda prometheus: newest[0])
    assert not plant.restored("prometheus", 6.0)
    newest[0] = 7.0
    assert plant.restored("prometheus", 6.0)
    assert plant.prometheus().address == "127.0.0.1:1/api/v1/namespaces/space/services/prometheus:http/proxy"


def test_a_grafana_that_does_not_answer_is_not_back(kubectl: Answers, plant: ClusterPlant) -> None:
    kubectl.known["app=grafana"] = {"items": [pod("g", "new")]}
    assert not plant.restored("grafana", 0)


def test_all_is_rolled_out_with_the_learners_rules(
    kubectl: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def proxy(argv: list[str], **_: Any) -> Iterator[None]:
        kubectl.asked.append(" ".join(argv[1:]))
        yield

    monkeypatch.setattr(monitored_cluster, "serve", proxy)
    with monitored_cluster.plant(MANIFEST, tmp_path / "alerts.yaml", 2, tmp_path) as held:
        assert held.target.url.endswith("/services/triton:http/proxy/v2/models/network/infer")
    said = [line.split(" ", 2)[2] if line.startswith("--namespace") else line for line in kubectl.asked]
    assert said[0].startswith("create namespace infra90-")
    assert said[1] == f"create configmap alert-rules --from-file=alerts.yaml={tmp_path / 'alerts.yaml'}"
    assert said[2] == f"apply --filename={MANIFEST}"
    assert sum(line.startswith("rollout status") for line in said) == 3
    assert said[-1].startswith("delete namespace infra90-")


def test_the_manifest_is_valid_and_has_what_the_drill_kills() -> None:
    parts = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    for part in parts:
        kubernetes_validate.validate(part, kubernetes_validate.latest_version(), strict=True)
    names = {f"{part['kind'].lower()}/{part['metadata']['name']}" for part in parts}
    assert names >= set(monitored_cluster.WORKLOADS)
    config = next(part for part in parts if part["metadata"]["name"] == "prometheus" and part["kind"] == "ConfigMap")
    scraped = yaml.safe_load(config["data"]["prometheus.yml"])
    assert all(
        monitored_cluster.scrapes.PLACE in one["labels"] for one in scraped["scrape_configs"][0]["static_configs"]
    )


def test_without_a_cluster_processes_stand_in() -> None:
    native, stand_in = kill.needs(kill.Params())
    assert native.cluster
    assert stand_in.stand_in_for == native.backend
