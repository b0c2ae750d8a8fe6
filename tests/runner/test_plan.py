"""Plans: what a name stands for, what a day's file becomes, what an experiment is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project

from runner import jobs
from runner.build import build
from runner.errors import Mistakes, nearest
from runner.plan import load, names


def test_a_plan_is_a_week_a_day_or_all_in_the_order_of_the_days(project: Project) -> None:
    for number in (10, 9):
        project.write_day(number, project.day(number))
    assert names(project.root) == ["week01", "day01", "day02", "day09", "day10", "all"]
    assert list(load(project.root, "week01")["days"]) == ["day01", "day02", "day09", "day10"]
    assert list(load(project.root, "all")["days"]) == ["day01", "day02", "day09", "day10"]
    assert list(load(project.root, "day09")["days"]) == ["day09"]


def test_a_title_is_the_weeks_the_days_or_that_of_all(project: Project) -> None:
    week = project.root / "plans/week01/week.yaml"
    week.write_text("id: week01\ntitle: {en: A week, zh: 一周}\n", encoding="utf-8")
    titles = {name: build(load(project.root, name), project.root).title for name in ("week01", "day01", "all")}
    assert titles == {
        "week01": {"en": "A week", "zh": "一周"},
        "day01": {"en": "words", "zh": "文字"},
        "all": {"en": "All days", "zh": "全部"},
    }


def test_a_day_as_a_value(project: Project) -> None:
    both = {"en": "a", "zh": "甲"}
    claim = {"text": both, "metric": "value", "at": {"n": 2}, "over": {"n": 1}, "op": ">=", "value": 2}
    first = project.experiment(claims=[claim], uses=["f.py"], timeout_s=7, minutes=0.5)
    day = project.day(1, {"first": first, "second": project.experiment(after=["first"], reads=["day02"])})
    made = {"made_by": "first", "checks": [{"check": "hpa_manifest", "params": {"cpu_target_pct": 60}}]}
    project.write_day(1, {**day, "deliverables": {"f.py": made}, "notes": [both]})
    value = build(load(project.root, "day01"), project.root).days[0]
    assert (value.id, value.week, value.folder) == ("day01", "week01", project.root / "plans/week01/day01")
    assert value.checklist == ("leetcode", "question-1", "question-2")
    one, two = value.experiments
    assert (one.id, one.day, one.week, one.timeout_s, one.minutes) == ("first", "day01", "week01", 7, 0.5)
    assert (two.after, two.reads, two.timeout_s, two.claims) == (("first",), ("day02",), 600, ())
    assert one.stanza() == {
        "kind": "rehearsal", "title": {"en": "words", "zh": "文字"}, "params": {"seconds": 0.0},
        "matrix": {"n": [1, 2]}, "metrics": ["elapsed_s", "value"], "uses": ["f.py"], "after": [],
        "reads": [], "claims": [claim],
    }  # fmt: skip
    assert value.deliverables[0].asked == [["hpa_manifest", {"cpu_target_pct": 60}]]


@pytest.mark.parametrize(
    ("matrix", "points"),
    [
        ({"n": [1, 2], "label": ["a", "b"]}, [(1, "a"), (1, "b"), (2, "a"), (2, "b")]),
        ({"label": ["b", "a"]}, [(0, "b"), (0, "a")]),
        ({}, [(0, "")]),
    ],
)
def test_the_points_of_a_matrix(matrix: dict[str, Any], points: list[tuple[int, str]], project: Project) -> None:
    project.write_day(1, project.day(1, {"only": project.experiment(matrix=matrix)}))
    _, work = jobs.read(project.root, "day01")
    assert [(point.n, point.label) for point in work.jobs[0].points] == points
    assert [set(point.model_dump(exclude_unset=True)) for point in work.jobs[0].points] == [set(matrix)] * len(points)


def test_no_days_is_said(tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    with pytest.raises(Mistakes, match="there is no plan"):
        load(tmp_path, "all")


def test_a_changed_file_is_read_again_though_a_copy_is_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", project.env["XDG_CACHE_HOME"])
    before = load(project.root, "day01")
    copies = list((project.root / "cache/infra90/parsed").iterdir())
    assert len(copies) == 1
    project.write_day(1, project.day(1, {"new": project.experiment()}))
    assert list(load(project.root, "day01")["days"]["day01"]["experiments"]) == ["new"]
    for copy in copies:
        copy.write_text(json.dumps({"stamp": []}), encoding="utf-8")
    project.write_day(1, project.day(1))
    assert load(project.root, "day01") == before


@pytest.mark.parametrize(
    ("word", "says"),
    [("instnaces", "did you mean 'instances'?"), ("xyz", "axes: instances, batch"), ("", "axes: instances, batch")],
)
def test_the_nearest_right_thing(word: str, says: str) -> None:
    assert nearest(word, ["instances", "batch"], noun="axes") == says


def test_what_has_no_order_is_listed_by_the_alphabet() -> None:
    assert nearest("xyz", {"instances", "batch"}) == "known: batch, instances"


def test_every_plan_of_the_checkout_is_valid() -> None:
    plan, work = jobs.read(ROOT, "week03")
    assert [day.id for day in plan.days] == [f"day{number}" for number in range(15, 22)]
    assert len(work.jobs) == 35
