"""`run status`, `next`, `done`: derived from plans and records, in both languages, for people and for programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT, Project, lay

HPA = ROOT / "plans/week03/day20/hpa.yaml"


@pytest.fixture
def measured(project: Project) -> Project:
    """One day, measured and proved: an experiment that uses a delivered file, and one that fails."""
    project.offline()
    shutil.rmtree(project.root / "plans/week01/day02")
    write(project)
    lay(project.root / "plans/week01/day01", {"hpa.yaml": HPA})
    ended = project.run("plan=week01")
    assert ended.returncode == 1, ended.stdout + ended.stderr
    return project


def write(project: Project, /, check: dict[str, Any] | None = None, **changes: Any) -> None:
    stanza = project.experiment(uses=["hpa.yaml"]) | changes
    day = project.day(1, {"good": stanza, "bad": project.experiment(params={"fail": "on purpose"})})
    checks = [check or {"check": "hpa_manifest", "params": {"cpu_target_pct": 50}}]
    project.write_day(1, {**day, "deliverables": {"hpa.yaml": {"made_by": "reference", "checks": checks}}})


def good(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.status()["days"][0]["experiments"][0]
    return found


def test_json_has_the_promised_shape(measured: Project) -> None:
    found = measured.status()
    assert found["plan"] == "all"
    assert found["totals"] == {
        "experiments": 2, "passed": 1, "native": 1, "stand_in": 0, "failed": 1, "blocked": 0, "stale": 0, "pending": 0,
        "running": 0, "deliverables": 1, "deliverables_ok": 1,
    }  # fmt: skip
    day = found["days"][0]
    assert (day["id"], day["title"]) == ("day01", {"en": "words", "zh": "文字"})
    promised = {"id": "good", "kind": "rehearsal", "status": "passed", "tier": "native", "backend": "rehearsal"}
    assert promised.items() <= day["experiments"][0].items()
    assert day["experiments"][1]["reason"] == "on purpose"
    deliverable = day["deliverables"][0]
    assert (deliverable["path"], deliverable["status"]) == ("hpa.yaml", "ok")
    assert [set(check) for check in deliverable["checks"]] == [{"check", "ok", "message"}]
    assert day["checklist"] == [{"id": item, "done": False} for item in ("leetcode", "question-1", "question-2")]


def test_before_anything_is_measured(project: Project) -> None:
    found = project.status()
    assert found["totals"]["pending"] == found["totals"]["experiments"] == 4
    assert not (project.root / "artifacts").exists()


def of_params(project: Project) -> None:
    write(project, params={"seconds": 0.01})


def of_matrix(project: Project) -> None:
    write(project, matrix={"n": [1, 2, 3]})


def of_metrics(project: Project) -> None:
    write(project, metrics=["value"])


def of_own_file(project: Project) -> None:
    with (project.root / "artifacts/week01/day01/hpa.yaml").open("a", encoding="utf-8") as file:
        file.write("# mine\n")


def of_reference(project: Project) -> None:
    with (project.root / "plans/week01/day01/hpa.yaml").open("a", encoding="utf-8") as file:
        file.write("# better\n")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (of_params, "the experiment's params"),
        (of_matrix, "the experiment's matrix"),
        (of_metrics, "the experiment's metrics"),
        (of_own_file, "artifacts/week01/day01/hpa.yaml"),
        (of_reference, "plans/week01/day01/hpa.yaml"),
    ],
)
def test_stale_says_what_changed(change: Callable[[Project], None], says: str, measured: Project) -> None:
    change(measured)
    found = good(measured)
    assert (found["status"], found["reason"]) == ("stale", f"changed since: {says}")
    assert measured.status()["totals"]["stale"] == 1


@pytest.mark.parametrize(
    ("key", "was", "says"),
    [
        ("settings", {"model": {"id": "another"}}, "the model settings"),
        ("inputs", {"tasks/rehearsal.py": "another hash"}, "tasks/rehearsal.py"),
    ],
)
def test_stale_for_settings_and_the_kinds_own_code(key: str, was: dict[str, Any], says: str, measured: Project) -> None:
    """A record says what it was measured with; another plan, setting or code is told from that."""
    record = measured.record("good")
    assert any(path.endswith("tasks/rehearsal.py") for path in record["inputs"])
    (measured.folder("good") / "record.json").write_text(json.dumps(record | {key: was}), encoding="utf-8")
    assert says in good(measured)["reason"]


def test_a_new_title_is_no_new_experiment(measured: Project) -> None:
    write(measured, title={"en": "another", "zh": "另一个"})
    assert good(measured)["status"] == "passed"


def deliverable(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = project.status()["days"][0]["deliverables"][0]
    return found


def test_a_deliverables_verdict_is_bound_to_the_file_and_to_what_was_asked(measured: Project) -> None:
    write(measured, check={"check": "hpa_manifest", "params": {"cpu_target_pct": 70}})
    assert (deliverable(measured)["status"], deliverable(measured)["reason"]) == (
        "stale", "changed since: the plan's checks",
    )  # fmt: skip
    assert measured.run("check", "day01").returncode == 1
    assert deliverable(measured)["status"] == "failed"
    assert deliverable(measured)["checks"][0]["message"]
    write(measured)
    lay(measured.root / "artifacts/week01/day01", {"hpa.yaml": "no manifest"})
    assert deliverable(measured)["status"] == "stale"
    assert "artifacts/week01/day01/hpa.yaml" in deliverable(measured)["reason"]


def test_the_checklist_is_ticked_by_the_learner_alone(measured: Project) -> None:
    ticked = measured.run("done", "day01", "leetcode", "question-2")
    assert ticked.returncode == 0
    assert "[x] leetcode" in ticked.stdout
    assert "[ ] question-1" in ticked.stdout
    assert [item["done"] for item in measured.status()["days"][0]["checklist"]] == [True, False, True]
    measured.run("done", "day01", "leetcode", "--undo")
    assert [item["done"] for item in measured.status()["days"][0]["checklist"]] == [False, False, True]
    assert measured.run("done", "day01", "--lang", "zh").stdout.count("文字") == 3


def test_next_names_the_command(measured: Project) -> None:
    said = json.loads(measured.run("next", "--json").stdout)
    assert said == {"day": "day01", "experiment": "bad", "command": "run plan=day01 experiment=bad"}
    write(measured)
    day = measured.day(1, {"good": measured.experiment(uses=["hpa.yaml"])})
    measured.write_day(1, day)
    assert json.loads(measured.run("next", "--json").stdout)["command"] == ""


def test_a_person_sees_a_grid_a_summary_and_the_next_command(measured: Project) -> None:
    measured.write_day(2, measured.day(2))
    lines = measured.run("status").stdout.splitlines()
    assert lines[0].split()[:4] == ["day01", "words", "experiments", "●✗"]
    assert "checklist 0/3" in lines[0]
    assert lines[1].split()[3] == "··"
    assert lines[-2] == "day 01/02 · 1 passed · 1 failed · 2 pending · 1/1 deliverables · next: bad"
    assert lines[-1] == "run plan=day01"


def test_a_day_is_shown_in_full(measured: Project) -> None:
    shown = measured.run("status", "day01").stdout
    for part in ("good", "passed rehearsal", "on purpose", "hpa.yaml", "1 passed · 1 failed", "run plan=day01"):
        assert part in shown


def test_a_person_who_reads_chinese_sees_chinese(measured: Project) -> None:
    shown = measured.run("status", "--lang", "zh").stdout
    for part in ("文字", "通过 rehearsal", "合格", "1 通过 · 1 失败 · 1/1 交付物 · 下一步: bad"):
        assert part in shown
    measured.write_day(2, measured.day(2))
    assert "2 待做" in measured.run("status", "--lang", "zh").stdout
