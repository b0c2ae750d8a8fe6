"""Deliverable → verdict, by what the file does. A verdict is bound to the file's hash and the checkers' code."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import environments, execute, spec, store
from runner.jobs import Proof, source
from runner.preflight import Lack, Machine, lacks, module_lacks
from tasks.api import Needs

CHECK_LIMITS = execute.Limits(timeout_s=300, memory_gb=16)


def current(proof: Proof, root: Path, records: Sequence[Path]) -> bool:
    """Whether the stored verdict still speaks of this file, these checks and these records."""
    stored = store.read_json(_file(proof, root))
    return bool(stored and stored["status"] != "blocked" and stored["bound"] == bound(proof, root, records))


def bound(proof: Proof, root: Path, records: Sequence[Path]) -> dict[str, str]:
    """What a verdict depends on: the deliverable, each checker's code and, for reports, the records behind it."""
    files = [_target(proof, root), *(file for _, check, _ in proof.checks for file in source(check.__name__))]
    if proof.deliverable.made_by in ("report", "weekly_report"):
        files += records
    return spec.inputs(files, root)


def run(
    proof: Proof, root: Path, machine: Machine, settings: Mapping[str, Any], records: Sequence[Path]
) -> dict[str, Any]:
    """Run a deliverable's checks in the environments they need and store the verdict."""
    file, target = _file(proof, root), _target(proof, root)
    verdict: dict[str, Any] = {
        "path": proof.deliverable.path, "uuid": uuid.uuid4().hex, "bound": bound(proof, root, records),
        "sha256": spec.file_hash(target), "at": time.time(), "checks": [], "reason": "", "remedy": "",
        "status": "ok",
    }  # fmt: skip
    needed = [(name, check, params, check.needs(params)) for name, check, params in proof.checks]
    found = [lack for *_, needs in needed for lack in _lacks(needs, root, machine, settings)]
    if found:
        verdict |= {"status": "blocked", "reason": "; ".join(lack.what for lack in found),
                    "remedy": "; ".join(lack.remedy for lack in found)}  # fmt: skip
    for name, check, params, needs in needed if not found else ():
        job = {
            "uuid": verdict["uuid"], "file": str(target), "day": str(target_day(proof, root)),
            "settings": {group: settings[group] for group in ("model", "machine")}, "seed": 90,
            "records": [str(path) for path in records],
            "checks": [{"module": check.__name__, "params": params.model_dump(mode="json")}],
        }  # fmt: skip
        python = environments.python(root, needs.environment, settings["environment"]["mode"])
        outcome = execute.run(job, python, CHECK_LIMITS, file.with_suffix(".log"), lambda: None, None)
        answers = outcome.answer.get("verdicts") or [{"ok": False, "message": outcome.reason, "evidence": {}}]
        verdict["checks"] += [{"check": name, **answer} for answer in answers]
    if any(not check["ok"] for check in verdict["checks"]):
        verdict["status"] = "failed"
    store.write_json(file, verdict)
    return verdict


def _lacks(needs: Needs, root: Path, machine: Machine, settings: Mapping[str, Any]) -> Iterable[Lack]:
    yield from (found := lacks(needs, machine))
    if not found:
        yield from module_lacks(needs, environments.python(root, needs.environment, settings["environment"]["mode"]))


def target_day(proof: Proof, root: Path) -> Path:
    return store.day_dir(root, proof.day.week, proof.day.id)


def _target(proof: Proof, root: Path) -> Path:
    return target_day(proof, root) / proof.deliverable.path


def _file(proof: Proof, root: Path) -> Path:
    return store.verdict_file(root, proof.day.week, proof.day.id, proof.deliverable.path)


def due(proof: Proof, root: Path) -> bool:
    """Whether there is something to check: the file is there, or the experiment that makes it has ended."""
    if _target(proof, root).exists() or proof.deliverable.made_by == "reference":
        return True
    maker = store.experiment_dir(root, proof.day.week, proof.day.id, proof.deliverable.made_by)
    return bool((store.read_json(maker / "record.json") or {}).get("status") == "passed")
