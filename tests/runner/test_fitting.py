"""`run doctor` on models: which fit this machine's GPU, or a card that somebody thinks of buying."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from runner import doctor, fitting, jobs, verbs
from runner.errors import Mistakes
from runner.preflight import Machine

MACHINE = Machine("box", "Debian", "a CPU", 2, 24, (), "", "", 100)


def test_an_8_gb_card_holds_a_7b_model_only_in_four_bits() -> None:
    found = fitting.examine(ROOT, MACHINE)
    assert found["card"] == "a card of 8 GB"
    seven = found["models"]["qwen2.5-7b"]
    assert (seven["bf16"], seven["int8"]) == (0, 0)
    assert 4_000 < seven["int4"] < 16_000
    assert found["models"]["qwen2.5-0.5b"]["bf16"] == 32_768


def test_the_machines_largest_gpu_is_asked_about_unless_another_card_is_named() -> None:
    machine = replace(MACHINE, gpus=("NVIDIA L4, 22.5 GiB, sm_89", "NVIDIA H100 80GB HBM3, 79.6 GiB, sm_90"))
    found = fitting.examine(ROOT, machine)
    assert found["card"].startswith("NVIDIA H100")
    assert found["models"]["qwen2.5-7b"]["bf16"] == 32_768
    assert fitting.examine(ROOT, machine, 8)["models"]["qwen2.5-7b"]["bf16"] == 0


def test_doctor_says_it_for_people_and_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert verbs.run("doctor", ROOT, ["week03", "--card", "8"]) == 0
    said = capsys.readouterr().out
    assert "language models on a card of 8 GB" in said
    assert verbs.run("doctor", ROOT, ["week03", "--card", "8GB", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"]["memory_gb"] == 8


def test_doctor_names_what_is_blocked_once_for_each_lack(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines as long as they are: an id or a remedy cut in two cannot be copied."""
    monkeypatch.setattr(verbs, "probe", lambda root: MACHINE)
    monkeypatch.setenv("COLUMNS", "80")
    assert verbs.run("doctor", ROOT, ["week02"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [lack] = [line for line in lines if line.startswith("blocked needs an NVIDIA GPU for CUDA, none here: ")]
    assert "day08/use-fast-math, day09/" in lack
    assert lines[lines.index(lack) + 1].strip() == "run this plan on a machine with an NVIDIA GPU and the driver"
    assert any(line.split()[:3] == ["day09", "unified-memory-oversubscribe", "blocked"] for line in lines)


def test_doctor_does_not_count_on_what_no_lock_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any environment is made: MLC-LLM comes from its maker, so PyTorch stands in for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan, work = jobs.read(ROOT, "syllabus-4")
    [found] = doctor.examine(work, verbs.request_for(ROOT, plan), MACHINE)["experiments"]
    assert found["runs"] == "stand-in"


def test_a_card_without_a_size_is_the_users_mistake() -> None:
    with pytest.raises(Mistakes, match="'big' is no size"):
        verbs.run("doctor", ROOT, ["week03", "--card", "big"])
