"""`run plan=…` from end to end on rehearsals: what is measured, what is kept, what the exit code says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project, lay

from tasks import rehearsal
from tasks.api import Needs, read_rows

HPA = ROOT / "plans/week03/day20/hpa.yaml"
CLAIM = {"text": {"en": "Twice", "zh": "两倍"}, "metric": "value", "at": {"n": 2}, "over": {"n": 1}, "op": ">="}


@pytest.fixture
def one(project: Project) -> Project:
    """A week of one day, without MLflow."""
    project.offline()
    shutil.rmtree(project.root / "plans/week01/day02")
    return project


def plan(project: Project, experiments: Mapping[str, Mapping[str, Any]], **day: Any) -> None:
    made = {name: project.experiment(**changes) for name, changes in experiments.items()}
    project.write_day(1, project.day(1, made) | day)


def rows(project: Project, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (project.folder(name) / "rows.jsonl").read_text().splitlines()]


def states(project: Project) -> dict[str, str]:
    return {e["id"]: e["status"] for e in project.status()["days"][0]["experiments"]}


def test_a_record_says_everything(one: Project) -> None:
    plan(one, {"first": {"claims": [CLAIM | {"value": 2}, CLAIM | {"value": 3}]}})
    ended = one.run("plan=week01")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = one.record("first")
    said = {
        "id": "first", "day": "day01", "week": "week01", "kind": "rehearsal", "status": "passed", "tier": "native",
        "backend": "rehearsal", "origin": "reference", "variant": "", "overrides": [], "reason": "", "settings": {},
        "points": {"planned": 2, "measured": 2},
    }  # fmt: skip
    assert said.items() <= record.items()
    assert [(claim["measured"], claim["verdict"]) for claim in record["claims"]] == [(2, "confirmed"), (2, "refuted")]
    assert record["machine"]["host"] == os.uname().nodename
    assert record["machine"]["fingerprint"]
    assert record["versions"]["python"]
    measured = read_rows(one.folder("first") / "rows.jsonl", record["spec"])
    assert [(row["point"], row["metrics"]["value"]) for row in measured] == [({"n": 1}, 1.0), ({"n": 2}, 2.0)]
    assert {"path": "rows.jsonl"}.items() <= record["artifacts"][0].items()
    assert (one.root / "artifacts/week01/day01/report_day1.md").is_file()
    assert "a finding" in ended.stdout


def test_a_refuted_claim_is_no_failure_and_a_missing_point_leaves_it_unknown(one: Project) -> None:
    plan(one, {"first": {"claims": [CLAIM | {"value": 3}]}})
    assert one.run("plan=week01").returncode == 0
    swept = one.run("plan=week01", "plan.days.day01.experiments.first.matrix.n=[1]")
    assert swept.returncode == 0, swept.stderr
    (variant,) = (one.root / "artifacts/week01/day01/experiments").glob("first+*/record.json")
    assert [claim["verdict"] for claim in json.loads(variant.read_text(encoding="utf-8"))["claims"]] == ["unknown"]


def test_nothing_is_done_twice(one: Project) -> None:
    plan(one, {"first": {}, "second": {}})
    assert one.run("plan=week01").returncode == 0
    before = {name: one.record(name) for name in ("first", "second")}
    again = one.run("plan=week01")
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert one.run("plan=week01", "experiment=first").returncode == 0
    assert {name: one.record(name) for name in before} == before


def test_only_missing_points_are_measured(one: Project) -> None:
    plan(one, {"first": {}})
    one.run("plan=week01")
    plan(one, {"first": {"matrix": {"n": [3, 1, 2]}, "metrics": ["value"]}})
    assert states(one) == {"first": "stale"}
    assert one.run("plan=week01").returncode == 0
    assert [row["point"]["n"] for row in rows(one, "first")] == [1, 2, 3]
    assert one.record("first")["points"] == {"planned": 3, "measured": 3}
    plan(one, {"first": {"matrix": {"n": [2]}}})
    assert one.run("plan=week01").returncode == 0
    assert len(rows(one, "first")) == 3
    assert one.record("first")["points"] == {"planned": 1, "measured": 1}


def test_other_params_measure_everything_again(one: Project) -> None:
    plan(one, {"first": {}})
    one.run("plan=week01")
    plan(one, {"first": {"params": {"seconds": 0.001}}})
    assert one.run("plan=week01").returncode == 0
    assert [row["point"]["n"] for row in rows(one, "first")] == [1, 2, 1, 2]
    assert one.record("first")["points"] == {"planned": 2, "measured": 2}


def test_force_measures_again(one: Project) -> None:
    plan(one, {"first": {}, "second": {}})
    one.run("plan=week01")
    before = one.record("first")
    assert one.run("plan=week01", "experiment=first", "force=true").returncode == 0
    assert one.record("first")["uuid"] != before["uuid"]
    assert len(rows(one, "first")) == 4
    assert len(rows(one, "second")) == 2


def test_a_failed_experiment_does_not_stop_the_rest(one: Project) -> None:
    plan(one, {"first": {"params": {"fail": "on purpose"}}, "second": {}, "third": {"after": ["first"]}})
    ended = one.run("plan=week01")
    assert ended.returncode == 1
    assert states(one) == {"first": "failed", "second": "passed", "third": "failed"}
    assert "on purpose" in ended.stdout
    assert "run plan=day01 experiment=first" in ended.stdout
    assert one.record("third")["reason"] == "needs first, which is failed"
    assert "Traceback" not in ended.stdout + ended.stderr
    plan(one, {"first": {}, "second": {}, "third": {"after": ["first"]}})
    assert one.run("plan=week01").returncode == 0
    assert states(one) == {"first": "passed", "second": "passed", "third": "passed"}


def test_a_failure_keeps_its_points(one: Project) -> None:
    plan(one, {"first": {"params": {"fail": "at the end"}}})
    assert one.run("plan=week01").returncode == 1
    assert one.record("first")["points"] == {"planned": 2, "measured": 2}
    assert one.record("first")["status"] == "failed"


def test_a_time_out_stops_the_experiment_and_says_so(one: Project) -> None:
    plan(one, {"first": {"params": {"seconds": 30.0}, "timeout_s": 1}, "second": {}})
    assert one.run("plan=week01").returncode == 1
    assert one.record("first")["reason"] == "ran past its time-out of 1 s"
    assert states(one) == {"first": "failed", "second": "passed"}


def test_a_memory_limit_stops_the_experiment_and_says_so(one: Project) -> None:
    plan(one, {"first": {"params": {"seconds": 30.0, "memory_mb": 400}, "matrix": {"n": [1]}}})
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ended = one.run("plan=week01", f"machine.memory_limit={0.3 / total:.6f}")
    assert ended.returncode == 1
    assert "GB of memory; its limit is 0.3 GB" in ended.stdout


def test_what_the_learner_changed_is_executed_and_never_overwritten(one: Project) -> None:
    check = {"check": "hpa_manifest", "params": {"cpu_target_pct": 50}}
    deliverable = {"hpa.yaml": {"made_by": "reference", "checks": [check]}}
    plan(one, {"first": {"uses": ["hpa.yaml"]}, "second": {}}, deliverables=deliverable)
    folder = one.root / "plans/week01/day01"
    lay(folder, {"hpa.yaml": HPA})
    own = one.root / "artifacts/week01/day01/hpa.yaml"
    assert one.run("plan=week01").returncode == 0
    assert own.read_bytes() == HPA.read_bytes()
    own.write_bytes(HPA.read_bytes() + b"# mine\n")
    lay(folder, {"hpa.yaml": HPA.read_bytes() + b"# a better reference\n"})
    assert states(one) == {"first": "stale", "second": "passed"}
    assert one.run("plan=week01").returncode == 0
    assert own.read_bytes() == HPA.read_bytes() + b"# mine\n"
    assert (one.record("first")["origin"], one.record("second")["origin"]) == ("own", "reference")
    assert one.status()["totals"]["deliverables_ok"] == 1
    own.unlink()
    assert one.run("plan=week01").returncode == 0
    assert own.read_bytes().endswith(b"# a better reference\n")
    assert one.record("first")["origin"] == "reference"


def test_a_changed_file_beside_a_deliverable_is_a_reason_to_prove_it_again(one: Project) -> None:
    check = {"check": "hpa_manifest", "params": {"cpu_target_pct": 50}}
    deliverable = {"hpa.yaml": {"made_by": "reference", "checks": [check]}}
    plan(one, {"first": {"uses": ["rules.yaml"]}}, deliverables=deliverable)
    lay(one.root / "plans/week01/day01", {"hpa.yaml": HPA, "rules.yaml": "groups: []\n"})
    assert one.run("plan=week01").returncode == 0
    assert one.status()["days"][0]["deliverables"][0]["status"] == "ok"
    (one.root / "artifacts/week01/day01/rules.yaml").write_text("groups: [broken\n", encoding="utf-8")
    [found] = one.status()["days"][0]["deliverables"]
    assert (found["status"], found["reason"].rpartition("/")[2]) == ("stale", "rules.yaml")


def test_an_untouched_file_follows_its_reference(one: Project) -> None:
    plan(one, {"first": {"uses": ["tool.txt"]}})
    folder = one.root / "plans/week01/day01"
    lay(folder, {"tool.txt": "1"})
    one.run("plan=week01")
    lay(folder, {"tool.txt": "2"})
    assert one.run("plan=week01").returncode == 0
    assert (one.root / "artifacts/week01/day01/tool.txt").read_text() == "2"
    assert one.record("first")["origin"] == "reference"


def test_a_symlink_in_the_workspace_is_not_written_through(one: Project, tmp_path: Path) -> None:
    plan(one, {"first": {"uses": ["tool.txt"]}})
    lay(one.root / "plans/week01/day01", {"tool.txt": "reference"})
    outside, place = tmp_path / "outside.txt", one.root / "artifacts/week01/day01"
    outside.write_text("precious")
    place.mkdir(parents=True)
    (place / "tool.txt").symlink_to(outside)
    one.run("plan=week01")
    assert outside.read_text() == "precious"


def test_an_override_is_kept_apart(one: Project) -> None:
    plan(one, {"first": {}, "second": {}})
    assert one.run("plan=week01").returncode == 0
    before = one.record("first")
    ended = one.run("plan=week01", "plan.days.day01.experiments.first.matrix.n=[7]")
    assert ended.returncode == 0
    variants = list(one.folder("first").parent.glob("first+*"))
    assert len(variants) == 1
    record = json.loads((variants[0] / "record.json").read_text())
    assert record["variant"] == variants[0].name.partition("+")[2]
    assert record["overrides"] == ["plan=week01", "plan.days.day01.experiments.first.matrix.n=[7]"]
    assert one.record("first") == before
    assert states(one) == {"first": "passed", "second": "passed"}


@pytest.fixture
def needing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def replace(*needs: Needs) -> None:
        monkeypatch.setattr(rehearsal, "needs", lambda params: list(needs))

    return replace


def test_what_cannot_run_here_is_blocked_with_its_remedy(
    one: Project, needing: Callable[..., None], inside: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    plan(one, {"first": {}})
    needing(Needs(backend="tensorrt", gpus=99))
    assert inside("plan=week01") == 3
    shown = capsys.readouterr().out
    found = one.status()["days"][0]["experiments"][0]
    assert found["status"] == "blocked"
    assert found["reason"].startswith("needs 99 NVIDIA GPUs for tensorrt, ")
    assert found["remedy"]
    assert found["remedy"] in shown
    needing(Needs(backend="rehearsal"))
    assert inside("plan=week01") == 0
    assert states(one) == {"first": "passed"}


def test_what_a_blocked_experiment_would_make_is_blocked_too(
    one: Project, needing: Callable[..., None], inside: Callable[..., int]
) -> None:
    plan(one, {"first": {}}, deliverables={"pods.png": {"made_by": "first", "checks": [{"check": "report_numbers"}]}})
    needing(Needs(backend="Kubernetes", cluster=True))
    assert inside("plan=week01") == 3
    [found] = one.status()["days"][0]["deliverables"]
    assert (found["status"], found["reason"]) == ("blocked", "needs a reachable Kubernetes cluster")
    assert "kind create cluster" in found["remedy"]


def test_a_stand_in_is_named_as_one(one: Project, needing: Callable[..., None], inside: Callable[..., int]) -> None:
    plan(one, {"first": {}})
    needing(Needs(backend="tensorrt", gpus=99), Needs(backend="openvino", stand_in_for="tensorrt"))
    assert inside("plan=week01") == 0
    record = one.record("first")
    assert (record["tier"], record["backend"], record["stand_in_for"]) == ("stand-in", "openvino", "tensorrt")
    assert (one.status()["totals"]["native"], one.status()["totals"]["stand_in"]) == (0, 1)


def test_a_missing_program_names_its_package(
    one: Project, needing: Callable[..., None], inside: Callable[..., int]
) -> None:
    plan(one, {"first": {}})
    needing(Needs(backend="x", binaries=("no-such-program",)))
    assert inside("plan=week01") == 3
    assert one.record("first")["remedy"] == "sudo apt-get install -y no-such-program"


def test_a_task_without_a_plan(one: Project) -> None:
    ended = one.run("task=rehearsal", "params.n=[1,2]", "params.label=x")
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(file.read_text()) for file in (one.root / "artifacts/adhoc").rglob("record.json")]
    assert [record["stanza"]["matrix"] for record in records] == [{"n": [1, 2], "label": ["x"]}]


def test_one_day_and_one_experiment_of_a_plan(project: Project) -> None:
    project.offline()
    assert project.run("plan=week01", "day=2", "experiment=try-2-1").returncode == 0
    assert [e["status"] for day in project.status()["days"] for e in day["experiments"]] == [
        "pending", "pending", "passed", "pending",
    ]  # fmt: skip


def test_a_sweep_runs_each_value(one: Project) -> None:
    plan(one, {"first": {}})
    ended = one.run("-m", "plan=week01", "plan.days.day01.experiments.first.matrix.n=[1],[4],[1,4]")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    records = [json.loads(file.read_text()) for file in one.folder("x").parent.glob("first+*/record.json")]
    assert sorted(record["stanza"]["matrix"]["n"] for record in records) == [[1], [1, 4], [4]]
    assert not (one.folder("first") / "record.json").exists()


def test_a_done_plan_whose_records_mlflow_lacks_is_sent_by_the_next_run(project: Project) -> None:
    project.offline()
    assert project.run("plan=week01").returncode == 0
    local = project.root / "conf" / "tracking" / "local.yaml"
    local.write_text((ROOT / "conf" / "tracking" / "local.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    again = project.run("plan=week01")
    assert "MLflow has them" in again.stdout, again.stdout + again.stderr
    assert "nothing to do: everything" in project.run("plan=week01").stdout


def test_a_report_that_the_learner_edited_stays(project: Project) -> None:
    project.offline()
    assert project.run("plan=day01").returncode == 0
    report = project.root / "artifacts" / "week01" / "day01" / "report_day1.md"
    report.write_text("my own words\n", encoding="utf-8")
    assert project.run("plan=day01", "force=true").returncode == 0
    assert report.read_text(encoding="utf-8") == "my own words\n"


def test_all_that_one_command_changed_is_kept_together(project: Project) -> None:
    project.offline()
    words = [f"plan.days.day01.experiments.try-1-{n}.matrix.n=[7]" for n in (1, 2)]
    ended = project.run("plan=day01", *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folders = sorted(path.name for path in (project.root / "artifacts/week01/day01/experiments").glob("*+*"))
    assert [name.partition("+")[0] for name in folders] == ["try-1-1", "try-1-2"]
    assert len({name.partition("+")[2] for name in folders}) == 1


def test_a_sweep_measures_only_what_it_varies(project: Project) -> None:
    project.offline()
    ended = project.run("-m", "plan=day01", "plan.days.day01.experiments.try-1-1.matrix.n=[3],[4]")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folders = sorted(path.name for path in (project.root / "artifacts/week01/day01/experiments").iterdir())
    assert len(folders) == 2
    assert all(name.startswith("try-1-1+") for name in folders)


def test_a_sweep_may_leave_out_what_a_claim_speaks_of(project: Project) -> None:
    claim = {"text": {"en": "words", "zh": "文字"}, "metric": "value", "at": {"n": 2}, "op": ">=", "value": 1}
    project.write_day(1, project.day(1, {"try-1-1": project.experiment(claims=[claim])}))
    project.offline()
    ended = project.run("-m", "plan=day01", "plan.days.day01.experiments.try-1-1.matrix.n=[1],[2]")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    records = project.root.glob("artifacts/week01/day01/experiments/try-1-1+*/record.json")
    verdicts = [json.loads(path.read_text(encoding="utf-8"))["claims"][0]["verdict"] for path in records]
    assert sorted(verdicts) == ["confirmed", "unknown"]


def test_another_seed_is_measured_apart(project: Project) -> None:
    project.offline()
    ended = project.run("-m", "plan=day01", "experiment=try-1-1", "seed=90,1,2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folders = sorted(path.name for path in (project.root / "artifacts/week01/day01/experiments").iterdir())
    assert len(folders) == 3
    assert folders[0] == "try-1-1"


def test_a_report_with_what_was_overridden_holds_in_its_own_check(project: Project) -> None:
    """Its tables show the variant's figures too, so the check is given that record."""
    report = {"report_day1.md": {"made_by": "report", "checks": [{"check": "report_numbers"}]}}
    project.write_day(1, project.day(1) | {"deliverables": report})
    project.offline()
    assert project.run("plan=day01").returncode == 0
    ended = project.run("plan=day01", "plan.days.day01.experiments.try-1-1.matrix.n=[7]")
    assert ended.returncode == 0, ended.stdout
    assert "With overrides" in (project.root / "artifacts/week01/day01/report_day1.md").read_text(encoding="utf-8")
    assert "2 passed · 1/1 deliverables" in ended.stdout, "the plan's own figures are what they were"
    assert project.run("check", "day01").returncode == 0


def test_every_task_without_a_plan_gets_its_report(one: Project) -> None:
    for n in (2, 3):
        ended = one.run("task=rehearsal", f"params.n=[1,{n}]")
        assert ended.returncode == 0, ended.stderr
        assert "checklist" not in ended.stdout
        report = (one.root / "artifacts/adhoc/rehearsal/report_rehearsal.md").read_text(encoding="utf-8")
        assert f"| {n} |" in report


def test_what_reads_a_record_follows_it_in_the_same_run(project: Project) -> None:
    day = project.day(1, {"first": project.experiment(), "looks-back": project.experiment(reads=["day01"])})
    project.write_day(1, day)
    project.offline()
    assert "2 passed" in project.run("plan=day01").stdout
    day["experiments"]["first"]["matrix"] = {"n": [1, 2, 3]}
    project.write_day(1, day)
    again = project.run("plan=day01").stdout
    assert "2 to measure" in again, again
    assert (project.status()["totals"]["stale"], "nothing to do" in project.run("plan=day01").stdout) == (0, True)
