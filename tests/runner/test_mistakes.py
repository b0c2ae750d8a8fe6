"""Every mistake gets one good answer: exit 2 before anything is done, where it stands, what is wrong, what is right."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Project

from runner import jobs, workflow
from runner.errors import Mistakes, Problem
from tasks import rehearsal
from tasks.api import Needs

RESOURCES = Path(__file__).parent.parent / "resources" / "mistakes"
DAY = (RESOURCES / "day.yaml").read_text(encoding="utf-8")
CASES = yaml.safe_load((RESOURCES / "cases.yaml").read_text(encoding="utf-8"))
FILE = "plans/week01/day01/day.yaml"
FIRST = "plan.days.day01.experiments.first"

Said = Callable[..., str]


@pytest.fixture
def day(project: Project) -> Project:
    """A project of one valid day (tests/resources/mistakes/day.yaml) with the file that it uses, and a symlink."""
    (project.root / "plans/week01/day02/day.yaml").unlink()
    (project.root / "plans/week01/day02").rmdir()
    folder = project.write_day(1, DAY).parent
    (folder / "tool.py").write_text("print('a tool')\n", encoding="utf-8")
    (folder / "link.py").symlink_to("/etc/hostname")
    return project


@pytest.fixture
def said(day: Project, inside: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """`said(*words)`: what the command answers to a mistake. Checks the exit code, and that nothing was done."""

    def call(*words: str) -> str:
        code = inside(*words)
        out, err = capsys.readouterr()
        assert code == 2, out + err
        assert "Traceback" not in out + err
        assert not out
        return err

    yield call
    assert not (day.root / "artifacts").exists()


def line_of(text: str, part: str) -> int:
    """The number of the line on which `part` begins, its leading line breaks and blanks left aside."""
    return text[: text.index(part) + len(part) - len(part.lstrip())].count("\n") + 1


def test_the_day_that_the_cases_are_made_of_is_valid(day: Project) -> None:
    plan, work = jobs.read(day.root, "week01")
    assert [job.id for job in work.jobs] == ["first", "second"]
    assert len(work.jobs[1].points) == 2
    assert plan.days[0].deliverables[0].path == "tool.py"


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_mistake_in_a_day(case: dict[str, Any], day: Project, said: Said) -> None:
    assert DAY.count(case["find"]) == 1, "the case must change one place of day.yaml"
    text = DAY.replace(case["find"], case["put"])
    day.write_day(1, text)
    answer = said("plan=week01")
    key = ".".join(filter(None, ("plan.days.day01", case["key"]))) if "key" in case else ""
    head = f"{FILE}:{line_of(text, case.get('line', case['put']))}: " + (f"{key}: " if key else "")
    assert head in answer
    problem = answer[answer.index(head) :]
    for part in case["says"]:
        assert part in problem


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("empty.yaml", f"{FILE}:1: plan.days.day01: is empty"),
        ("comment.yaml", f"{FILE}:1: plan.days.day01: is empty"),
        ("list.yaml", f"{FILE}:1: plan.days.day01: must hold a mapping, not a list"),
        ("word.yaml", f"{FILE}:1: plan.days.day01: must hold a mapping, not a single value"),
        ("utf16.yaml", f"{FILE}:1: is not UTF-8\n    save the file as UTF-8"),
        ("latin1.yaml", f"{FILE}:2: is not UTF-8"),
        ("garbage.yaml", f"{FILE}:1: is not UTF-8"),
        ("nul.yaml", f"{FILE}:2: holds a character that YAML does not allow: U+0000"),
        ("bell.yaml", f"{FILE}:3: holds a character that YAML does not allow: U+0007"),
        ("laughs.yaml", f"{FILE}:2: plan.days.day01.a1.0: is an alias"),
    ],
)
def test_a_file_that_is_no_day(file: str, says: str, day: Project, said: Said) -> None:
    (day.root / FILE).write_bytes((RESOURCES / "files" / file).read_bytes())
    assert says in said("plan=week01")


@pytest.mark.parametrize("nest", ["a: " + "[" * 100_000, "- " * 100_000, "a: " + "{a: " * 100_000], ids=["[", "-", "{"])
def test_deep_nesting_is_refused_before_it_overflows_the_parser(nest: str, day: Project, said: Said) -> None:
    day.write_day(1, nest)
    assert f"{FILE}:1: is nested more than 40 deep" in said("plan=week01")


def test_a_file_of_data_is_no_day(day: Project, said: Said) -> None:
    day.write_day(1, DAY + "# " + "x" * 1_000_000)
    assert f"{FILE}: is larger than 1,000 kB" in said("plan=week01")


def test_a_folder_in_the_place_of_a_day(day: Project, said: Said) -> None:
    (day.root / FILE).unlink()
    assert f"{FILE}: cannot be read: No such file or directory" in said("plan=week01")
    (day.root / FILE).mkdir()
    assert f"{FILE}: cannot be read: Is a directory" in said("plan=week01")


def test_windows_line_ends_and_a_byte_order_mark_are_no_mistake(day: Project) -> None:
    (day.root / FILE).write_bytes(b"\xef\xbb\xbf" + DAY.replace("\n", "\r\n").encode())
    assert len(jobs.read(day.root, "week01")[1].jobs) == 2


def test_what_cannot_be_done_yet_is_said_without_a_traceback(
    day: Project, inside: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside("ui") == 1
    assert "nothing is in MLflow yet\n  Run something first" in capsys.readouterr().err


def test_too_many_points(day: Project, said: Said) -> None:
    day.write_day(
        1, DAY.replace("matrix: {n: [3], label: [a, b]}", f"matrix: {{n: {list(range(5001))}, label: [a, b]}}")
    )
    answer = said("plan=week01")
    assert "plan.days.day01.experiments.second.matrix: spans 10,002 points; the most is 10,000" in answer


def test_a_week_file_is_read_as_strictly(day: Project, said: Said) -> None:
    (day.root / "plans/week01/week.yaml").write_text("id: week01\ntitle: 3\n", encoding="utf-8")
    file = day.root / "plans/week01/week.yaml"
    answer = said("plan=week01")
    assert answer.startswith("plans/week01/week.yaml:2: plan.title: must be a mapping")
    assert answer.count("plan.title") == 1
    file.write_text("id: week01\nhighlights: [{experiment: 3}]\ncover: []\n", encoding="utf-8")
    answer = said("plan=day01")
    assert "week.yaml:2: plan.highlights.0.experiment: input should be a valid string" in answer
    assert "week.yaml:3: plan.cover: is not a known key\n    did you mean 'covers'?" in answer


def test_an_environment_without_a_lock(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind's needs are proved like the plan's own words."""
    monkeypatch.setattr(rehearsal, "needs", lambda params: [Needs(backend="x", environment="tirton")])
    answer = said("plan=week01")
    assert f"{FILE}:8: {FIRST}.kind: rehearsal needs the environment 'tirton', which has no lock" in answer
    assert "did you mean 'triton'?" in answer


def test_every_mistake_is_reported_in_one_answer(day: Project) -> None:
    """Structure, kinds, checks and files that cannot be read, over several days: for real, in a process of its own."""
    text = DAY.replace("timeout_s: 60", "timeout_s: -60").replace(
        "kind: rehearsal\n    title: {en: Sec", "kind: x\n    title: {en: Sec"
    )
    day.write_day(1, text.replace("redis_client", "redis"))
    day.write_day(2, "id: day02\nid: day02\n")
    ended = day.run("plan=week01")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    heads = [line for line in ended.stderr.splitlines() if not line.startswith(" ")]
    assert [head.partition(": ")[0] for head in heads] == [
        "plans/week01/day02/day.yaml:2", f"{FILE}:15", f"{FILE}:18", f"{FILE}:28",
    ]  # fmt: skip
    assert not (day.root / "artifacts").exists()


@pytest.mark.parametrize("verb", ["status", "next", "check", "report", "doctor", "setup"])
def test_every_verb_answers_a_broken_plan_and_an_unknown_one(verb: str, day: Project, said: Said) -> None:
    assert "no plan 'week1'\n    did you mean 'week01'?" in said(verb, "week1")
    day.write_day(1, DAY.replace("timeout_s: 60", "timeout_s: -60"))
    assert f"{FILE}:15: {FIRST}.timeout_s: must be more than 0" in said(verb, "week01")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stauts"], "'stauts' is no verb\n    did you mean 'status'?"),
        (["week01"], "'week01' is no verb"),
        (["plan=week01", "force"], "'force' is no verb"),
        (["status", "--jason"], "did you mean '--json'?"),
        (["status", "--lang", "fr"], "no language 'fr'"),
        (["done"], "which day?"),
        (["done", "day01", "leetcod"], "did you mean 'leetcode'?"),
        (["done", "day09"], "no plan 'day09'"),
        (["status", "week01", "day01"], "'day01' is one word too many\n    usage: run status [PLAN]"),
        (["lint", "week01"], "'week01' is one word too many"),
        (["check"], "which plan?"),
        (["ui", "--port", "x"], "'x' is no port"),
        (["ui", "--port", "70000"], "'70000' is no port"),
        (["-m"], "nothing to run"),
        (["force=true"], "nothing to run"),
        (["plan=weak01"], "command line: plan: no plan 'weak01'\n    did you mean 'week01'?"),
        (["plan="], "no plan ''"),
        (["plan=null"], "no plan 'None'"),
        (["plan=[week01]"], "no plan"),
        (["plan=week01,day01"], "plan: names several values\n    run -m"),
        (["plan=week01", "plan=day01"], "plan: is given twice"),
        (["plan=week01", "day=3"], "day: week01 has no day '3'"),
        (["plan=week01", "experiment=frist"], "did you mean 'first'?"),
        (["plan=week01", "experiment=[first]"], "has no experiment"),
        (["plan=week01", "model=tniy"], "model: no model 'tniy'\n    did you mean 'tiny'?"),
        (["plan=week01", "engine=llama_cpp"], "engine: llama_cpp would be ignored: no experiment here takes"),
        (["plan=week01", "environment=curent"], "environment: no environment 'curent'\n    did you mean 'current'?"),
        (["plan=week01", "tracking=x"], "no tracking 'x'"),
        (["plan=week01", "machine=x"], "no machine 'x'"),
        (["plan=week01", "model.encoder.lairs=3"], "did you mean 'layers'?"),
        (["plan=week01", "model.encoder.layers=many"], "model.encoder.layers: must be a whole number, not 'many'"),
        (["plan=week01", "model.encoder={layers:many}"], "model.encoder.layers: must be a whole number"),
        (["plan=week01", "machine.price_per_hour=cheap"], "must be a number, not 'cheap'"),
        (["plan=week01", "model.id=${oc.env:HOME}"], "model.id: a plan holds plain values"),
        (["plan=week01", "froce=true"], "froce: is not a known key\n    did you mean 'force'?"),
        (["plan=week01", "force=yes please"], "force: must be true or false"),
        (["plan=week01", "seed=x"], "seed: must be a whole number"),
        (["plan=week01", "lang=fr"], "lang: no language 'fr'"),
        (["plan=week01", "=3"], "is not a known key"),
        (["plan=week01", "force=[tr"], "force=[tr: cannot be read"),
        (["plan=week01", "--waits"], "--waits: is no option\n    did you mean '--wait'?"),
        (["plan=week01", "hydra/launcher=jobib"], "Could not find 'hydra/launcher/jobib'\n    basic, joblib"),
        (["plan=week01", "hydra.launcher.n_jobs=8"], "Key 'n_jobs' not in 'BasicLauncherConf'"),
        (["task=rehersal"], "task: no kind 'rehersal'\n    did you mean 'rehearsal'?"),
        (["task=rehearsal", "params.secnods=1"], "params.secnods: is no parameter or axis of this kind"),
        (["task=rehearsal", "params.seconds=soon"], "command line: params.seconds: input should be a valid number"),
        (["task=rehearsal", "params.seconds=${oc.env:HOME}"], "params.seconds: a plan holds plain values"),
        (["task=rehearsal", "params=3"], "params: must be a mapping"),
        (["+plan.x=1"], "plan.x: a plan takes no new keys"),
        (["plan=week01", "+plan.x=1"], "plan.x: a plan takes no new keys"),
        (["plan=week01", "++plan.days.day01.x=1"], "plan.days.day01.x: a plan takes no new keys"),
        (["plan=week01", "plan.x=1"], "plan.x: plan has no 'x'"),
        (["plan=week01", "plan.id=x"], "plan.id cannot be changed"),
        (["plan=week01", "~plan"], "no plan"),
        (["plan=week01", "~plan.days.day09"], "plan.days has no 'day09'\n    did you mean 'day01'?"),
        (["plan=week01", "plan.days=3"], "plan.days: must be a mapping"),
        (["plan=week01", "plan.days.day01.id=x"], "command line: plan.days.day01.id: is 'x'"),
        (["plan=week01", f"{FIRST}=null"], f"{FIRST}: must be a mapping"),
        (["plan=week01", f"{FIRST}.kind=rehersal"], f"{FIRST}.kind: no kind 'rehersal'"),
        (["plan=week01", f"{FIRST}.kidn=x"], f"{FIRST}.kidn: {FIRST} has no 'kidn'\n    did you mean 'kind'?"),
        (["plan=week01", f"{FIRST}.timeout=5"], "did you mean 'timeout_s'?"),
        (["plan=week01", f"{FIRST}.timeout_s=-5"], f"command line: {FIRST}.timeout_s: must be more than 0"),
        (["plan=week01", f"{FIRST}.params.secnods=1"], "did you mean 'seconds'?"),
        (["plan=week01", f"{FIRST}.params.seconds=soon"], f"command line: {FIRST}.params.seconds: input should be"),
        (["plan=week01", f"{FIRST}.params={{_target_:os.system}}"], f"{FIRST}.params._target_: a plan names kinds"),
        (["plan=week01", f"{FIRST}.params._target_=os.system"], "has no '_target_'"),
        (["plan=week01", f"{FIRST}.params.seconds=${{oc.env:HOME}}"], "a plan holds plain values"),
        (["plan=week01", f"{FIRST}.matrix.lable=[a]"], "did you mean 'label'?"),
        (["plan=week01", f"{FIRST}.matrix=[1]"], f"{FIRST}.matrix: must be a mapping"),
        (["plan=week01", f"{FIRST}.matrix.n=3"], f"{FIRST}.matrix.n: must be a list"),
        (["plan=week01", f"{FIRST}.matrix.n=[]"], f"{FIRST}.matrix.n: has no values"),
        (["plan=week01", f"{FIRST}.matrix.n=1,2"], f"{FIRST}.matrix.n: names several values"),
        (["plan=week01", f"{FIRST}.metrics.0=x"], "override it as a whole"),
        (["-m", "plan=week01,weak02"], "no plan 'weak02'"),
        (["-m", "plan=week01", "model=tiny,tniy"], "no model 'tniy'"),
        (["-m", "plan=week01", "engine=vllm,llama_cpp"], "llama_cpp would be ignored"),
        (["-m", "plan=week01", f"{FIRST}.matrix.n=[1],[x]"], f"{FIRST}.matrix.n.0: input should be a valid integer"),
        (["-m", "plan=week01", f"{FIRST}.kind=rehearsal,rehersal"], "no kind 'rehersal'"),
        (["-m", "plan=week01", "experiment=first,third"], "has no experiment 'third'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_mistake_on_the_command_line(words: list[str], says: str, said: Said) -> None:
    answer = said(*words)
    assert "command line: " in answer
    assert says in answer


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ([f"{FIRST}.params.fail=x"], lambda first: first.params.fail == "x"),
        ([f"{FIRST}.params={{fail:x}}"], lambda first: (first.params.fail, first.params.seconds) == ("x", 0.0)),
        ([f"{FIRST}.matrix.label=[a,b]"], lambda first: len(first.points) == 4),
        ([f"{FIRST}.matrix.n=[7]", f"{FIRST}.claims=[]"], lambda first: first.points[0].n == 7),
        ([f"{FIRST}.timeout_s=5"], lambda first: first.experiment.timeout_s == 5),
        ([f"{FIRST}.after=[]"], lambda first: first.experiment.after == ()),
        ([f"~{FIRST}.timeout_s"], lambda first: first.experiment.timeout_s == 600),
        (["~plan.days.day01.notes"], lambda first: first.day.notes == ()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_whatever_the_schema_knows_can_be_overridden(
    words: list[str], read: Callable[[Any], bool], day: Project, inside: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Written in the YAML or not: params, axes, the stanza's optional keys."""
    seen: list[Any] = []
    monkeypatch.setattr(workflow, "run_plan", lambda plan, work, request, screen: seen.append(work) or 0)
    assert inside("plan=week01", *words) == 0
    assert read(seen[0].jobs[0])


def test_cfg_job_shows_the_whole_plan(day: Project) -> None:
    shown = day.run("plan=week01", f"{FIRST}.params.fail=x", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    composed = yaml.safe_load(shown.stdout)
    written = yaml.safe_load(DAY)
    written["experiments"]["first"]["params"]["fail"] = "x"
    assert composed["plan"]["days"]["day01"] == written
    assert composed["model"]["id"] == "tiny"
    assert not (day.root / "artifacts").exists()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree, itself first."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(tree)
    node = changed
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return changed


WRONG = [
    None, True, 0, -1, 1.5, 10**30, "", "x", "../x", "a.b", [], [None], [[1]], [{}], {}, {"x": 1}, {"x": {"y": []}},
]  # fmt: skip


@pytest.mark.parametrize("place", list(places(yaml.safe_load(DAY))), ids=lambda path: ".".join(map(str, path)))
def test_no_wrong_value_anywhere_is_more_than_a_mistake(place: tuple[Any, ...], day: Project) -> None:
    """Each value of the day replaced by one of each kind: it is accepted or it is a mistake on that day's file."""
    for wrong in WRONG:
        day.write_day(1, json.dumps(replaced(yaml.safe_load(DAY), place, wrong), indent=1, ensure_ascii=False))
        found = mistakes_in(day)
        assert all(problem.what and problem.where.startswith(FILE) for problem in found)
        assert all(problem.key.startswith("plan.days.day01") for problem in found)


def mistakes_in(day: Project) -> list[Problem]:
    try:
        jobs.read(day.root, "week01")
    except Mistakes as found:
        return found.problems
    return []
