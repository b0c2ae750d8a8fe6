"""The report checkers on files that are no report, and on a report in which any one digit was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import api
from tasks.catalog import CHECKS

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("architecture_svg", "bottleneck_chart", "report_numbers", "resume_bullets", "weekly_report")
FIXTURES = ROOT / "tests" / "checks"


def verdict(folder: Path, file: Path, case: dict[str, Any]) -> api.Verdict:
    check = CHECKS[folder.parent.parent.name]
    records = sorted((ROOT / case["records"]).glob("*/experiments/*/record.json"))
    work = api.Workspace(day=folder, scratch=folder, settings={}, records=records)
    return check.check(file, check.Params.model_validate(case["params"]), work)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00garbage", b"| a | b |\n| --- | --- |\n| 1 | 2 |\n"])
def test_a_file_that_is_no_deliverable_fails_with_a_verdict(name: str, content: bytes | None, tmp_path: Path) -> None:
    folder = next((FIXTURES / name / "good").iterdir())
    case = yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8"))
    file = tmp_path / case["file"]
    if content is not None:
        file.write_bytes(content)
    found = verdict(folder, file, case)
    assert not found.ok
    assert found.message


def test_every_changed_digit_of_a_result_is_found(tmp_path: Path) -> None:
    """Change each number of the good report's table of points, one at a time."""
    folder = FIXTURES / "report_numbers" / "good" / "native"
    case = yaml.safe_load((folder / "case.yaml").read_text(encoding="utf-8"))
    lines = (folder / case["file"]).read_text(encoding="utf-8").splitlines()
    rows = [at for at, line in enumerate(lines) if line.startswith("| ") and line.endswith("`native` |")]
    changed = 0
    for at in rows:
        for place, digit in enumerate(lines[at]):
            if digit.isdigit():
                forged = lines[at][:place] + str((int(digit) + 1) % 10) + lines[at][place + 1 :]
                file = tmp_path / case["file"]
                file.write_text("\n".join([*lines[:at], forged, *lines[at + 1 :]]), encoding="utf-8")
                assert not verdict(folder, file, case).ok, forged
                changed += 1
    assert changed > 30
