"""Fixtures that every family of tests shares: the real runner's path to a kind or a checker, a small project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_kubectl import Kubectl, installed

from runner import cli, environments, execute, settings
from runner.lint import case
from tasks.api import read_rows
from tasks.catalog import CHECKS, KINDS

# A test run that was put into the background ignores Ctrl-C, and every process that it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
LIMITS = execute.Limits(timeout_s=900, memory_gb=16)  # whoever comes first trains the model that it needs


def _child(job: Mapping[str, Any], needs: Any, folder: Path) -> execute.Outcome:
    """The worker in the environment that `needs` names, provisioned if it is not there."""
    python = environments.provision_all(ROOT, needs, "managed", print)
    chosen = settings.defaults(ROOT)
    pythons = environments.pythons(ROOT, needs.also, "managed")
    told = {group: chosen[group] for group in settings.MEASURED}
    job = {"settings": told, "seed": 90, "records": [], "pythons": pythons, **job}
    return execute.run(job, python, LIMITS, folder / "log.txt", lambda: None, None)


@pytest.fixture
def run_kind(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], Path]]:
    """`run_kind(kind, params, points, day_files={name: text|bytes|Path}, backend=None) -> (rows, out folder)`.

    Runs the kind as the runner does: in a child, in its environment. Fails the test with the reason when it fails.
    """

    def call(
        kind: str, params: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ({},),
        day_files: Mapping[str, Any] | None = None, backend: str | None = None,
    ) -> tuple[list[dict[str, Any]], Path]:  # fmt: skip
        day, out = tmp_path / "day", tmp_path / "out"
        out.mkdir(exist_ok=True)
        lay(day, day_files or {})
        module = KINDS[kind]
        options = list(module.needs(module.Params.model_validate(dict(params))))
        needs = next((n for n in options if n.backend == backend), options[-1])
        job = {
            "uuid": os.urandom(8).hex(), "module": module.__name__, "params": dict(params), "points": list(points),
            "backend": needs.backend, "tier": needs.tier, "spec": "test", "day": str(day), "out": str(out),
        }  # fmt: skip
        outcome = _child(job, needs, out)
        if not outcome.ok:
            log = (out / "log.txt").read_text(encoding="utf-8", errors="replace")
            raise AssertionError(f"{outcome.reason}\n{log[-3000:]}")
        return read_rows(out / "rows.jsonl", "test"), out

    return call


@pytest.fixture
def run_check(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`run_check(check, file, params={}, records=()) -> {ok, message, evidence}`, as the runner runs it."""

    def call(
        check: str, file: Path, params: Mapping[str, Any] | None = None, records: Sequence[Path] = ()
    ) -> dict[str, Any]:
        return checked(check, file, params or {}, records, tmp_path)

    return call


@pytest.fixture
def fixture_file(tmp_path: Path) -> Callable[[str], Path]:
    """`fixture_file("hpa_manifest/bad/no_qps")`: the file that this fixture of a checker is about, laid out."""

    def call(name: str) -> Path:
        folder = tmp_path / "fixtures" / name
        return folder / case.lay(ROOT / "tests" / "checks" / name, ROOT, folder).file

    return call


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    """A kubectl first on PATH that answers from a table: see `fake_kubectl`."""
    fake, folder = installed(tmp_path / "kubectl")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return fake


def checked(check: str, file: Path, params: Mapping[str, Any], records: Sequence[Path], folder: Path) -> dict[str, Any]:
    module = CHECKS[check]
    job = {
        "uuid": os.urandom(8).hex(), "file": str(file), "day": str(file.parent),
        "records": [str(path) for path in records],
        "checks": [{"module": module.__name__, "params": dict(params)}],
    }  # fmt: skip
    outcome = _child(job, module.needs(module.Params.model_validate(dict(params))), folder)
    assert outcome.ok, outcome.reason
    verdict: dict[str, Any] = outcome.answer["verdicts"][0]
    return verdict


def lay(folder: Path, files: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        data = content.read_bytes() if isinstance(content, Path) else content
        target.write_bytes(data.encode() if isinstance(data, str) else data)


class Project:
    """A small project of its own: two days of rehearsals, the real conf/, its own artifacts and cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(ROOT / "conf", root / "conf")
        self.env = {**os.environ, "XDG_CACHE_HOME": str(root / "cache"), "COLUMNS": "160"}
        for day in (1, 2):
            self.write_day(day, self.day(day))

    def day(self, number: int, experiments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A valid day as plain data; tests change it and write it back."""
        both = {"en": "words", "zh": "文字"}
        plain = {f"try-{number}-{n}": self.experiment() for n in (1, 2)}
        return {
            "id": f"day{number:02d}", "title": both, "goals": [both], "focus": [both], "blocks": [{"hours": 1, **both}],
            "experiments": dict(experiments or plain), "deliverables": {},
            "checklist": {"leetcode": both, "questions": [both, both]},
        }  # fmt: skip

    def experiment(self, **changes: Any) -> dict[str, Any]:
        both = {"en": "words", "zh": "文字"}
        return {"kind": "rehearsal", "title": both, "params": {"seconds": 0.0}, "matrix": {"n": [1, 2]},
                "metrics": ["elapsed_s", "value"], **changes}  # fmt: skip

    def write_day(self, number: int, day: Any) -> Path:
        """JSON is YAML; a text is written as it is."""
        file = self.root / "plans" / "week01" / f"day{number:02d}" / "day.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        text = day if isinstance(day, str) else json.dumps(day, ensure_ascii=False, indent=1)
        file.write_text(text, encoding="utf-8")
        return file

    def offline(self) -> None:
        """MLflow refuses at once: for tests of everything else."""
        local = self.root / "conf" / "tracking" / "local.yaml"
        text = local.read_text(encoding="utf-8")
        local.write_text(text.replace('uri: ""', "uri: http://127.0.0.1:9"), encoding="utf-8")

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "runner", *words]

    def run(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        env = {**self.env, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            self.argv(*words), cwd=self.root, env=env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        env = {**self.env, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            self.argv(*words), cwd=self.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def folder(self, experiment: str, day: int = 1) -> Path:
        return self.root / "artifacts" / "week01" / f"day{day:02d}" / "experiments" / experiment

    def record(self, experiment: str, day: int = 1) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder(experiment, day) / "record.json").read_text(encoding="utf-8"))
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture
def inside(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """`inside(*words)`: the command in this process, for what a test must replace (a kind's needs). Its exit code."""
    monkeypatch.chdir(project.root)
    for name, value in project.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # put back afterwards: the command sets it
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["run", *words])
        return cli.dispatch(list(words))

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
