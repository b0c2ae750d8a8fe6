"""A point that this machine cannot measure: no figure is made up for it, and the rest of the experiment counts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from conftest import Project

from runner import records
from tasks import rehearsal
from tasks.api import Context, read_rows
from tasks.documents import audit, stored, tables


def lacking(project: Project, *missing: int) -> dict[str, Any]:
    """Run the day with these values of `n` out of reach; the first experiment's record."""
    project.offline()
    params = {"lacking": list(missing)}
    project.write_day(1, project.day(1, {"try-1-1": project.experiment(params=params)}))
    project.run("plan=day01")
    return project.record("try-1-1")


def test_the_other_points_count_and_the_lack_is_named(project: Project) -> None:
    record = lacking(project, 2)
    assert (record["status"], record["points"]) == ("passed", {"planned": 2, "measured": 1})
    assert (record["reason"], record["remedy"]) == ("there is no 2 here", "bring 2")
    rows = read_rows(project.folder("try-1-1") / "rows.jsonl", record["spec"])
    assert [row["metrics"].get("value") for row in rows] == [1.0, None]


def test_tables_show_it_as_blocked_and_the_audit_agrees(project: Project) -> None:
    lacking(project, 2)
    [record] = stored.load([project.folder("try-1-1") / "record.json"])
    table = tables.results(record).markdown()
    assert [line.split("|")[-2].strip() for line in table.splitlines()[2:]] == ["`native`", "`blocked`"]
    document = f"# Day\n\n## `{stored.name(record)}`\n\n{table}\n"
    assert audit.audit(document, [record]).faults == []
    assert audit.audit(document.replace("`blocked`", "`native`"), [record]).faults


def test_an_experiment_of_which_nothing_can_be_measured_is_blocked(project: Project) -> None:
    assert lacking(project, 1, 2)["status"] == "blocked"


def test_a_run_that_is_continued_tries_it_again(tmp_path: Path) -> None:
    context = Context(day=tmp_path, scratch=tmp_path, settings={}, out=tmp_path, spec="one")
    context.record(rehearsal.Point(n=1), {"value": 1})
    context.blocked(rehearsal.Point(n=2), "no 2 here", "bring 2")
    job = SimpleNamespace(points=[rehearsal.Point(n=1), rehearsal.Point(n=2)])
    assert records.missing_points(job, tmp_path, "one") == [{"n": 2}]
