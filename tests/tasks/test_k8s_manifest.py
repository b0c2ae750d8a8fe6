"""The GPU demo's checker on its reference, and the rules that no schema holds against the API server's own words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import api
from tasks.checks import k8s_manifest
from tasks.kubernetes import schemas
from tasks.kubernetes.lines import Document
from tasks.kubernetes.memory_pod import Pair, pod
from tasks.kubernetes.quantities import amount

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def verdict(file: Path) -> api.Verdict:
    work = api.Workspace(day=file.parent, scratch=file.parent, settings={})
    return k8s_manifest.check(file, k8s_manifest.Params(), work)


def test_a_missing_file_fails_with_a_verdict(tmp_path: Path) -> None:
    found = verdict(tmp_path / "k8s-gpu-demo.yaml")
    assert (found.ok, found.message) == (False, "k8s-gpu-demo.yaml: cannot be read: No such file or directory")


def test_the_reference_passes_and_says_that_no_cluster_was_asked() -> None:
    found = verdict(ROOT / "plans" / "week01" / "day02" / "k8s-gpu-demo.yaml")
    assert found.ok, found.message
    assert found.evidence["api_server"] == "no cluster to ask"


def test_a_mistake_is_reported_at_its_line(fixture_file: Callable[[str], Path]) -> None:
    file = fixture_file("k8s_manifest/bad/other_target_port")
    lines = file.read_text(encoding="utf-8").splitlines()
    line = next(number for number, text in enumerate(lines, start=1) if "targetPort" in text)
    assert verdict(file).message.startswith(f"k8s-gpu-demo.yaml:{line}: ")


def test_a_request_above_its_limit_passes_the_schemas_and_not_the_api_server() -> None:
    """The words are ValidateResourceRequirements': "must be less than or equal to memory limit of 512Mi"."""
    pair = Pair("1Gi", "512Mi")
    assert not list(schemas.problems(Document(pod("hog", pair, "image", "true"), None)))
    assert pair.refusal == "memory: the request 1Gi must be less than or equal to the limit of 512Mi"
    assert not Pair("512Mi", "1Gi").refusal


@pytest.mark.parametrize(
    ("written", "value"),
    [("512Mi", 2**29), ("1Gi", 2**30), ("1G", 1e9), ("250m", 0.25), ("1e3", 1000), (1, 1), ("1.5Gi", 1.5 * 2**30)],
)
def test_quantities(written: str | int, value: float) -> None:
    assert amount(written) == value


@pytest.mark.parametrize("written", ["", "4GB", "-1", "Gi", "1 Gi", None, "1KI"])
def test_what_is_no_quantity(written: str | None) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        amount(written)
