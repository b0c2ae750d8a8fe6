"""A written report follows what it is made from: records, the plan's files, other verdicts, the code that writes it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project

pytestmark = pytest.mark.slow
REPORT, WEEKLY = "report_day1.md", "weekly_report_wk1.md"


@pytest.fixture
def proved(project: Project) -> Project:
    """A week of one day with both of its reports, measured by a copy of the program, and proved."""
    shutil.rmtree(project.root / "plans/week01/day02")
    checks = {"checks": [{"check": "report_numbers"}]}
    deliverables = {REPORT: {"made_by": "report"} | checks, WEEKLY: {"made_by": "weekly_report"} | checks}
    project.write_day(1, project.day(1) | {"deliverables": deliverables})
    project.offline()
    skipped = shutil.ignore_patterns("__pycache__")
    for package in ("runner", "tasks"):
        shutil.copytree(ROOT / package, project.root / package, ignore=skipped)
    run(project)
    for record in project.root.glob("artifacts/week01/*/experiments/*/record.json"):
        record.with_name("tracked.json").touch()  # as if MLflow had them
    assert "nothing to do: everything" in run(project)
    return project


def run(project: Project, *words: str) -> str:
    """What `run plan=week01` of the project's own copy says."""
    env = {**project.env, "PYTHONPATH": str(project.root)}
    argv = [sys.executable, "-m", "runner", "plan=week01", *words]
    ended = subprocess.run(argv, cwd=project.root, env=env, capture_output=True, text=True, timeout=120, check=True)
    return ended.stdout


def replace(file: Path, find: str, put: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert find in text
    file.write_text(text.replace(find, put), encoding="utf-8")


def of_a_template(root: Path) -> None:
    replace(root / "runner/report/templates/day.md.j2", "# {{ heading }}", "# Changed: {{ heading }}")


def of_a_table(root: Path) -> None:
    replace(root / "tasks/documents/words.py", '"native": "native"', '"native": "Changed"')


def of_the_days_note(root: Path) -> None:
    replace(root / "plans/week01/day01/day.yaml", '"title": {\n  "en": "words"', '"title": {\n  "en": "Changed"')


@pytest.mark.parametrize("change", [of_a_template, of_a_table, of_the_days_note])
def test_a_run_rewrites_what_would_now_be_written_differently(change: Callable[[Path], None], proved: Project) -> None:
    change(proved.root)
    stale = [d for d in proved.status()["days"][0]["deliverables"] if d["status"] == "stale"]
    assert [d["path"] for d in stale] == [REPORT, WEEKLY]
    for verb in ("status", "next"):
        assert proved.run(verb, "week01").stdout.splitlines()[-1] == "run plan=day01"
    said = run(proved)
    assert f"wrote artifacts/week01/day01/{REPORT}" in said
    assert f"ok day01/{WEEKLY}" in said
    assert "Changed" in (proved.root / "artifacts/week01/day01" / REPORT).read_text(encoding="utf-8")
    assert "nothing to do: everything" in run(proved)


def test_a_weeks_report_is_judged_when_its_week_is_measured(project: Project) -> None:
    """Before that it shows what is there: to say that the rest is missing would be no finding."""
    checks = {"checks": [{"check": "weekly_report", "params": {"experiments": 4}}]}
    project.write_day(2, project.day(2) | {"deliverables": {WEEKLY: {"made_by": "weekly_report"} | checks}})
    project.offline()
    for words in (["plan=day02"], ["plan=week01", "seed=1"]):
        assert project.run(*words).returncode == 0
        assert project.status()["days"][1]["deliverables"][0]["status"] == "pending"
    assert project.run("plan=day01").returncode == 0
    assert project.run("plan=day02").returncode == 0
    assert project.status()["days"][1]["deliverables"][0]["status"] == "ok"


def test_the_weeks_own_file_is_what_its_report_is_made_from(proved: Project) -> None:
    (proved.root / "plans/week01/week.yaml").write_text("id: week01\ntitle: {en: A week, zh: 周}\n", encoding="utf-8")
    said = run(proved, "experiment=try-1-1")
    assert f"wrote artifacts/week01/day01/{WEEKLY}" in said
    assert f"wrote artifacts/week01/day01/{REPORT}" not in said


def test_what_the_learner_wrote_stays_and_nothing_is_said_to_be_written(proved: Project) -> None:
    own = proved.root / "artifacts/week01/day01" / REPORT
    own.write_text(own.read_text(encoding="utf-8") + "my own words\n", encoding="utf-8")
    of_a_template(proved.root)
    assert f"wrote artifacts/week01/day01/{REPORT}" not in run(proved)
    assert own.read_text(encoding="utf-8").endswith("my own words\n")
