"""What is asked of a cluster, seen by a kubectl that writes down its arguments and answers from a table."""

from __future__ import annotations

import json
import os
import random
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.chaos import fleets
from tasks.kubernetes import autoscale, cluster_plant, manifest
from tasks.kubernetes.plant import Seen
from tasks.services import cluster

MANIFEST = Path(__file__).resolve().parents[2] / "plans" / "week03" / "day20" / "hpa.yaml"
KUBECTL = """#!{python}
import http.server, json, pathlib, sys
home = pathlib.Path({home!r})
with (home / "asked").open("a") as asked:
    asked.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "proxy":
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
    port = int(sys.argv[2].removeprefix("--port="))
    http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
for start, answer in json.loads((home / "answers").read_text()):
    if " ".join(sys.argv[1:]).find(start) >= 0:
        print(answer)
        sys.exit(answer.startswith("Error"))
"""
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
NAME = ("--output=jsonpath={.items[0].metadata.name}", "triton")


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`answers(*pairs)` sets what kubectl says to commands with a text in them; `asked()` are the commands so far."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "kubectl"
    script.write_text(KUBECTL.format(python=sys.executable, home=str(tmp_path)), encoding="utf-8")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)

    class Fake:
        def answers(self, *pairs: tuple[str, str]) -> None:
            (tmp_path / "answers").write_text(json.dumps(pairs), encoding="utf-8")

        def asked(self) -> list[str]:
            lines = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
            return [" ".join(json.loads(line)) for line in lines]

    fake = Fake()
    fake.answers(NAME)
    return fake


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
    kubectl.answers(NAME, ("get deployment/triton hpa/triton", json.dumps(STATUS)))
    with cluster_plant.applied(MANIFEST, tmp_path) as plant:
        assert plant.observe() == Seen(running=2, desired=3, cpu_pct=71, qps=361)


def test_a_metric_that_the_cluster_does_not_have_is_not_invented(kubectl: Any, tmp_path: Path) -> None:
    bare = {"kind": "List", "items": [{"kind": "Deployment"}, {"kind": "HorizontalPodAutoscaler", "status": {}}]}
    kubectl.answers(NAME, ("get deployment/triton hpa/triton", json.dumps(bare)))
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
    kubectl.answers(NAME, ("get pods", "pod/triton-a\npod/triton-b"))
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
