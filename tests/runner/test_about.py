"""A week's own file: what its report goes on from, and mistakes in it that name the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.about import about, reported
from runner.errors import Mistakes

HIGHLIGHT = {"experiment": "day01/one", "metric": "value", "baseline": {"n": 1}, "value": {"n": 2}, "better": "higher"}
BOTH = "{en: words, zh: 文字}"


@pytest.fixture
def week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "plans" / "week02" / "week.yaml"
    file.parent.mkdir(parents=True)
    return file


def test_a_report_goes_on_from_a_week_that_was_begun(week: Path) -> None:
    root = week.parents[2]
    week.write_text(f"id: week02\ntitle: {BOTH}\ncovers: [week01]\n", encoding="utf-8")
    assert reported("week02", root) == ["week02"]
    record = root / "artifacts" / "week01" / "day01" / "experiments" / "one" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}", encoding="utf-8")
    assert reported("week02", root) == ["week01", "week02"]


def test_a_mistake_names_the_file_and_the_key(week: Path) -> None:
    lines = [f"{key}: {value}" for key, value in HIGHLIGHT.items()]
    text = "highlights:\n  - " + "\n    ".join([*lines, f"did: {BOTH}", "how: {en: words}"]) + "\n"
    week.write_text(text.replace("'", ""), encoding="utf-8")
    with pytest.raises(Mistakes, match=r"plans/week02/week\.yaml:8: plan\.highlights\.0\.how\.zh: is missing"):
        about("week02", week.parents[2])


def test_a_week_without_a_file_says_nothing(tmp_path: Path) -> None:
    assert about("week09", tmp_path).highlights == []
