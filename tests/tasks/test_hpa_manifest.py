"""The manifest checker on its reference, on no file and on a file with several mistakes."""

from __future__ import annotations

from pathlib import Path

from tasks import api
from tasks.checks import hpa_manifest

ROOT = Path(__file__).resolve().parents[2]


def verdict(file: Path, params: hpa_manifest.Params) -> api.Verdict:
    return hpa_manifest.check(file, params, api.Workspace(day=file.parent, scratch=file.parent, settings={}))


def test_a_missing_file_fails_with_a_verdict(tmp_path: Path) -> None:
    found = verdict(tmp_path / "hpa.yaml", hpa_manifest.Params())
    assert (found.ok, found.message) == (False, "hpa.yaml: cannot be read: No such file or directory")


def test_the_reference_passes() -> None:
    found = verdict(ROOT / "plans" / "week03" / "day20" / "hpa.yaml", hpa_manifest.Params())
    assert found.ok, found.message
    assert found.evidence["max"] == 4


def test_several_mistakes_are_reported_together(tmp_path: Path) -> None:
    text = (ROOT / "plans" / "week03" / "day20" / "hpa.yaml").read_text(encoding="utf-8")
    text = text.replace("averageUtilization: 50", "averageUtilization: 51").replace("minReplicas: 1", "minReplicas: 9")
    (tmp_path / "hpa.yaml").write_text(text, encoding="utf-8")
    found = verdict(tmp_path / "hpa.yaml", hpa_manifest.Params())
    assert "averageUtilization: 50" in found.message
    assert "minReplicas 9" in found.message
