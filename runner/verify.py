"""Deliverable → verdict, by what the file does. A verdict is bound to the file's hash and the checkers' code."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import environments, execute, origins, spec, store, workspace
from runner.jobs import Proof
from runner.preflight import Lack, Machine, lacks, module_lacks
from runner.request import Request
from runner.settings import MEASURED
from runner.source import source
from tasks.api import Check, Needs, Params

LIMITS = execute.Limits(timeout_s=600, memory_gb=16)  # a first image build downloads what is in it
REPORTS = ("report", "weekly_report")


def due(proof: Proof, root: Path) -> bool:
    """Whether there is something to check: the file is there, or the experiment that makes it has passed.

    A report is checked when there are the records that it reports on.
    """
    there = _target(proof, root).exists()
    if proof.deliverable.made_by in REPORTS:
        return there and origins.enough(proof.day, root, weekly=proof.deliverable.made_by == "weekly_report")
    if there or proof.deliverable.made_by == "reference":
        return True
    return _maker(proof, root).get("status") in ("passed", "blocked")


def _maker(proof: Proof, root: Path) -> dict[str, Any]:
    """The record of the experiment that makes the deliverable; empty when there is none."""
    folder = store.experiment_dir(root, proof.day.week, proof.day.id, proof.deliverable.made_by)
    return store.read_json(folder / "record.json") or {}


def gaps(proof: Proof, machine: Machine, request: Request) -> list[Lack]:
    """What the checks need and this machine has not, or what blocks the experiment that makes the deliverable.

    The environments must have been made.
    """
    wanted = (check.needs(params) for _, check, params in proof.checks)
    found = [lack for needs in wanted for lack in _lacks(needs, machine, request)]
    maker = _maker(proof, request.root)
    if not found and maker.get("status") == "blocked" and not _target(proof, request.root).exists():
        return [Lack(maker["reason"], maker["remedy"])]
    return found


def _lacks(needs: Needs, machine: Machine, request: Request) -> Iterator[Lack]:
    found = lacks(needs, machine)
    yield from found or module_lacks(needs, environments.python(request.root, needs.environment, request.mode))


def current(proof: Proof, root: Path, records: Sequence[Path], blocked_by: Sequence[Lack]) -> Mapping[str, Any] | None:
    """The stored verdict, if it still speaks of this file, these checks, these records and this machine."""
    stored: Mapping[str, Any] | None = store.read_json(_file(proof, root))
    if not stored or stored["reason"] != _reason(blocked_by):
        return None
    if blocked_by:
        return stored
    same = stored.get("asked") == proof.deliverable.asked and stored["bound"] == bound(proof, root, records)
    return stored if same else None


def bound(proof: Proof, root: Path, records: Sequence[Path]) -> dict[str, str]:
    """What a verdict depends on: the deliverable, each checker's code, and what a report is made from.

    Any other deliverable may name the day's other files (a configuration its rules, a script its model): those too.
    """
    files = [_target(proof, root), *(file for _, check, _ in proof.checks for file in source(check.__name__))]
    if proof.deliverable.made_by in REPORTS:
        weekly = proof.deliverable.made_by == "weekly_report"
        files += [*records, *origins.beside(proof.day, root, weekly=weekly)]
    else:
        place = store.day_dir(root, proof.day.week, proof.day.id)
        files += [place / name for name in workspace.references(proof.day)]
    return spec.inputs(files, root)


def run(proof: Proof, request: Request, records: Sequence[Path], blocked_by: Sequence[Lack]) -> dict[str, Any]:
    """Run a deliverable's checks in the environments they need and store the verdict."""
    root = request.root
    file, target = _file(proof, root), _target(proof, root)
    answers = []
    shown = origins.variants(proof.day, root) if proof.deliverable.made_by == "report" else []
    told = [*records, *shown]  # not bound to those: one more changes the report itself
    for name, check, params in proof.checks if not blocked_by else ():
        answer = tried(check, params, target, told, request, file.with_suffix(".log"))
        answers.append({"check": name, **answer})
    failed = any(not answer["ok"] for answer in answers)
    verdict = {
        "path": proof.deliverable.path, "status": "blocked" if blocked_by else "failed" if failed else "ok",
        "checks": answers, "asked": proof.deliverable.asked,
        "reason": _reason(blocked_by), "remedy": "; ".join(lack.remedy for lack in blocked_by),
        "bound": bound(proof, root, records), "sha256": spec.file_hash(target), "at": time.time(),
    }  # fmt: skip
    store.write_json(file, verdict)
    return verdict


def tried(
    check: Check, params: Params, target: Path, records: Sequence[Path], request: Request, log: Path,
    on_tick: Callable[[], None] = lambda: None,
) -> dict[str, Any]:  # fmt: skip
    """One check on one file, in a child in the environment that it needs: {ok, message, evidence}.

    `on_tick` is called every second until the child has ended.
    """
    job = {
        "uuid": os.urandom(16).hex(), "file": str(target), "day": str(target.parent), "seed": request.seed,
        "settings": {group: request.settings[group] for group in MEASURED},
        "pythons": environments.pythons(request.root, check.needs(params).also, request.mode),
        "records": [str(path) for path in records],
        "checks": [{"module": check.__name__, "params": params.model_dump(mode="json")}],
    }  # fmt: skip
    python = environments.python(request.root, check.needs(params).environment, request.mode)
    outcome = execute.run(job, python, LIMITS, log, on_tick, None)
    if not outcome.ok:
        return {"ok": False, "message": outcome.reason, "evidence": {}}
    answer: dict[str, Any] = outcome.answer["verdicts"][0]
    return answer


def _reason(blocked_by: Sequence[Lack]) -> str:
    return "; ".join(lack.what for lack in blocked_by)


def _target(proof: Proof, root: Path) -> Path:
    return store.day_dir(root, proof.day.week, proof.day.id) / proof.deliverable.path


def _file(proof: Proof, root: Path) -> Path:
    return store.verdict_file(root, proof.day.week, proof.day.id, proof.deliverable.path)
