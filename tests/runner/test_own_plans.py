"""Plans beside the ninety days: they select days and have units of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Project

from runner.plan import load, names
from tasks.documents import stored, tables

OWN = """id: four
title: {en: Four weeks, zh: 四周}
days: [days-4-7, day02, days-11-14]
"""
REPORT = {
    "report_days_4_7.md": {"made_by": "report", "checks": [{"check": "report_numbers"}]},
    "report_four.md": {
        "made_by": "weekly_report",
        "checks": [{"check": "weekly_report", "params": {"experiments": 4}}],
    },
}


def unit(project: Project, name: str, **changes: Any) -> None:
    """A unit as its source has it: no hours, no questions."""
    value = project.day(1, {"try-it": project.experiment()}) | {"id": name} | changes
    del value["blocks"], value["checklist"]
    folder = project.root / "plans" / "four" / name
    folder.mkdir(parents=True)
    (folder / "day.yaml").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def four(project: Project) -> Project:
    unit(project, "days-4-7", deliverables={"report_days_4_7.md": REPORT["report_days_4_7.md"]})
    unit(project, "days-11-14", deliverables={"report_four.md": REPORT["report_four.md"]})
    (project.root / "plans" / "four" / "week.yaml").write_text(OWN, encoding="utf-8")
    project.offline()
    return project


def test_its_days_stand_in_the_order_that_it_lists_and_its_units_end_all(four: Project) -> None:
    assert list(load(four.root, "four")["days"]) == ["days-4-7", "day02", "days-11-14"]
    assert list(load(four.root, "all")["days"]) == ["day01", "day02", "days-4-7", "days-11-14"]
    assert names(four.root) == ["week01", "four", "day01", "day02", "days-4-7", "days-11-14", "all"]


def test_all_takes_its_units_in_its_own_order(four: Project) -> None:
    """What looks back comes last, whatever it is called."""
    file = four.root / "plans" / "four" / "week.yaml"
    file.write_text(OWN.replace("days-4-7, day02, days-11-14", "days-11-14, day02, days-4-7"), encoding="utf-8")
    assert list(load(four.root, "all")["days"]) == ["day01", "day02", "days-11-14", "days-4-7"]


def test_a_unit_without_a_checklist_shows_none(four: Project) -> None:
    first, second, *_ = four.run("status", "four").stdout.splitlines()
    assert (first.split()[0], second.split()[0]) == ("days-4-7", "day02")
    assert ("checklist" in first, "checklist 0/3" in second) == (False, True)
    assert "four has no checklist of its own, its days have" in four.run("done", "four", "leetcode").stderr
    said = four.run("done", "days-4-7")
    assert (said.returncode, said.stderr.splitlines()[0]) == (2, "command line: days-4-7 has no checklist")


def test_it_runs_and_writes_one_report_over_its_days(four: Project) -> None:
    done = four.run("plan=four")
    assert done.returncode == 0, done.stdout + done.stderr
    place = four.root / "artifacts" / "four"
    report = (place / "days-11-14" / "report_four.md").read_text(encoding="utf-8")
    assert report.startswith("# Four weeks\n")
    assert all(name in report for name in ("days-4-7/try-it", "day02/try-2-1", "days-11-14/try-it"))
    assert (place / "days-11-14" / "report_four.html").exists()
    assert "days-4-7 · words" in (place / "days-4-7" / "report_days_4_7.md").read_text(encoding="utf-8")
    assert "part 3/3 · 4 passed" in four.run("status", "four").stdout
    again = four.run("plan=four")
    assert "nothing to do" in again.stdout


def test_what_a_selected_day_has_is_not_measured_twice(four: Project) -> None:
    four.run("plan=day02")
    before = four.record("try-2-1", day=2)["uuid"]
    four.run("plan=four")
    assert four.record("try-2-1", day=2)["uuid"] == before


def test_a_day_that_is_not_there_and_a_unit_that_is_not_listed_are_named(four: Project) -> None:
    file = four.root / "plans" / "four" / "week.yaml"
    file.write_text(OWN.replace("day02, days-11-14", "day22"), encoding="utf-8")
    said = four.run("plan=four")
    assert said.returncode == 2
    assert "plans/four/week.yaml: days: no day 'day22'" in said.stderr
    assert "plans/four/week.yaml: days: 'days-11-14' is not listed" in said.stderr


def test_two_days_may_share_an_id_and_the_day_tells_them_apart(project: Project) -> None:
    for day in (1, 2):
        project.write_day(day, project.day(day, {"memory-curve": project.experiment()}))
    project.offline()
    assert project.run("plan=week01", "day=2", "experiment=memory-curve").returncode == 0
    assert not Path(project.folder("memory-curve", 1)).exists()
    assert project.record("memory-curve", 2)["status"] == "passed"


def test_what_an_experiment_writes_is_checked_against_what_it_has_read(project: Project) -> None:
    """The knowledge map of a plan's last unit speaks of the units before it."""
    one = project.experiment(matrix={"n": [1]})
    looks_back = project.experiment(matrix={"n": [1]}, reads=["days-4-7"])
    listed = {"made_by": "look-back", "checks": [{"check": "weekly_report", "params": {"experiments": 2}}]}
    unit(project, "days-4-7", experiments={"try-it": one})
    unit(project, "days-11-14", experiments={"look-back": looks_back}, deliverables={"map.md": listed})
    (project.root / "plans" / "four" / "week.yaml").write_text(OWN.replace("day02, ", ""), encoding="utf-8")
    project.offline()
    project.run("plan=four")
    place = project.root / "artifacts" / "four"
    records = stored.load(sorted(place.glob("*/experiments/*/record.json")))
    rows = [
        [f"`{stored.name(each)}`", tables.main_result(each, "en"), tables.badge(stored.label(each))] for each in records
    ]
    table = tables.Table(["experiment", "result", "tier"], [False] * 3, rows)
    (place / "days-11-14" / "map.md").write_text(table.markdown(), encoding="utf-8")
    seen = project.run("check", "days-11-14")
    assert seen.returncode == 0, seen.stdout
    assert "2 experiments with tier" in seen.stdout
