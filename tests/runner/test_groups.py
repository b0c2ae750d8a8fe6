"""The files of conf/ are proved like a day's: exit 2 before anything is done, file and line, what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import ROOT, Project

from runner import groups, settings, tracking, verbs
from runner.errors import Mistakes

Said = Callable[..., str]
MODEL, CONFIG = "model/tiny.yaml", "config.yaml"


@pytest.fixture
def said(project: Project, inside: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """`said(*words)`: what the command answers to a mistake. Nothing may be done before."""

    def call(*words: str) -> str:
        code = inside(*words)
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), out + err
        return err

    yield call
    assert not (project.root / "artifacts").exists()


def change(project: Project, file: str, find: str, put: str) -> int:
    """Replace one place of a file of conf/. Returns the line on which it stands."""
    path = project.root / "conf" / file
    text = path.read_text(encoding="utf-8")
    assert find in text
    path.write_text(text.replace(find, put, 1), encoding="utf-8")
    return text[: text.index(find)].count("\n") + 1


@pytest.mark.parametrize(
    "name", [f"{group}/{name}" for group in settings.GROUPS for name in settings.choices(ROOT, group)]
)
def test_what_is_delivered_is_right(name: str) -> None:
    group, _, choice = name.partition("/")
    assert groups.choices(ROOT, {group: choice})[group]


@pytest.mark.parametrize(
    ("file", "find", "put", "says"),
    [
        (MODEL, "hidden: 128", "hidden: wide", "model.encoder.hidden: input should be a valid integer, not 'wide'"),
        (MODEL, "hidden: 128", "hiden: 128", "model.encoder.hiden: is not a known key\n    did you mean 'hidden'?"),
        (MODEL, "encoder:", "encodr:", "model.encodr: is not a known key\n    did you mean 'encoder'?"),
        (MODEL, "id: tiny", "id: tyni", "model.id: is 'tyni', but the file's name is 'tiny'\n    write 'tiny'"),
        (MODEL, "id: tiny", "id: 3", "model.id: input should be a valid string, not '3'"),
        (MODEL, "id: tiny", "id: tiny\nid: tiny", "model.id: is given twice"),
        (MODEL, "id: tiny", "id: ${oc.env:HOME}", "model.id: a plan holds plain values"),
        ("engine/vllm.yaml", "id: vllm", "id: vllm\nport: 80", "engine.port: is not a known key"),
        ("machine/here.yaml", "0.0", "cheap", "machine.price_per_hour: input should be a valid number, not 'cheap'"),
        ("machine/here.yaml", "0.8", "80", "machine.memory_limit: input should be less than or equal to 1"),
        ("environment/managed.yaml", "managed", "manged", "environment.mode: input should be 'managed' or 'current'"),
        ("tracking/local.yaml", '""', "ftp://x", "tracking.uri: 'ftp://x' is not a place that this runner can track"),
        ("tracking/local.yaml", "patient_timeout_s: 60", "patience_s: 60", "did you mean 'patient_timeout_s'?"),
        (CONFIG, "seed: 90", "seed: x", "seed: input should be a valid integer, not 'x'"),
        (CONFIG, "lang: en", "lang: fr", "lang: input should be 'en' or 'zh'"),
    ],
    ids=lambda value: str(value).partition("\n")[0],
)
def test_a_mistake_in_a_file_of_conf(file: str, find: str, put: str, says: str, project: Project, said: Said) -> None:
    line = change(project, file, find, put) + put.count("\n")
    answer = said("plan=week01")
    assert answer.startswith(f"conf/{file}:{line}: ")
    assert says in answer


def test_a_default_that_is_not_there_is_named_where_it_is_chosen(project: Project, said: Said) -> None:
    change(project, CONFIG, "model: tiny", "model: tniy")
    for words in (["plan=week01"], ["status"]):
        assert said(*words).startswith("conf/config.yaml:2: defaults: no model 'tniy'\n    did you mean 'tiny'?")


def test_a_missing_key_is_asked_for_where_it_belongs(project: Project, said: Said) -> None:
    line = change(project, MODEL, "  kv_heads: 2\n", "") - 4
    assert said("plan=week01").startswith(f"conf/{MODEL}:{line}: model.lm.kv_heads: is missing")


def test_an_override_is_no_cure_for_a_broken_file(project: Project, said: Said) -> None:
    """It is compared with what the file says, so the file must be right first."""
    change(project, MODEL, "hidden: 128", "hidden: wide")
    assert "conf/model/tiny.yaml" in said("plan=week01", "model.encoder.hidden=64")


def test_a_model_that_is_not_chosen_does_not_disturb(project: Project) -> None:
    change(project, "model/qwen2.5-7b.yaml", "revision:", "revison:")
    project.offline()
    assert project.run("plan=day01").returncode == 0
    asked = project.run("plan=day01", "model=qwen2.5-7b")
    assert (asked.returncode, "did you mean 'revision'?" in asked.stderr) == (2, True)


@pytest.mark.parametrize("verb", ["check", "doctor", "setup"])
def test_every_verb_that_works_proves_them(verb: str, project: Project, said: Said) -> None:
    change(project, "environment/managed.yaml", "managed", "manged")
    assert "did you mean 'managed'?" in said(verb, "week01")


def test_doctor_reads_every_model(project: Project, said: Said) -> None:
    change(project, "model/qwen2.5-7b.yaml", "heads: 28", "heads: many")
    assert "conf/model/qwen2.5-7b.yaml:8: model.lm.shape.heads: input should be a valid integer" in said("doctor")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("environment.mode=curent", "environment.mode: input should be 'managed' or 'current', not 'curent'"),
        ("machine.memory_limit=80", "machine.memory_limit: input should be less than or equal to 1"),
        ("engine.id=vlm", "engine.id: no engine 'vlm'\n    did you mean 'vllm'?"),
        ("tracking.uri=ftp://x", "tracking.uri: 'ftp://x' is not a place"),
    ],
)
def test_a_value_of_the_right_type_must_mean_something_too(word: str, says: str, said: Said) -> None:
    assert f"command line: {says}" in said("plan=week01", word)


def test_tracking_is_read_from_the_chosen_file() -> None:
    assert verbs.tracking_of(ROOT, []) == tracking.TrackingSettings(budget_s=120.0)
    assert verbs.tracking_of(ROOT, ["tracking=server"]).uri == "http://127.0.0.1:5000"
    with pytest.raises(Mistakes, match="did you mean 'server'"):
        verbs.tracking_of(ROOT, ["tracking=servr"])
