"""Every deliverable's checks fail on an empty folder; what we ship as the reference passes them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner import workspace
from runner.jobs import Proof, Work
from runner.lint.trial import Trial, tried
from runner.preflight import Machine
from runner.show import Screen


def findings(work: Work, root: Path, machine: Machine, screen: Screen) -> Iterator[str]:
    for proof in work.proofs:
        screen.progress(f"proving {proof.day.id}/{proof.deliverable.path}")
        yield from _empty(proof, root, machine, screen)
        if proof.deliverable.made_by == "reference":
            yield from _reference(proof, root, machine, screen)


def _empty(proof: Proof, root: Path, machine: Machine, screen: Screen) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        for name, _, params in proof.checks:
            trial = Trial(name, params.model_dump(mode="json"), Path(folder) / proof.deliverable.path)
            verdict = tried(trial, root, machine, screen)
            if verdict and verdict["ok"]:
                yield f"{proof.day.id}/{proof.deliverable.path}: {name} passes on an empty folder"


def _reference(proof: Proof, root: Path, machine: Machine, screen: Screen) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        for name in workspace.references(proof.day):
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(proof.day.folder / name, target)
        for name, _, params in proof.checks:
            trial = Trial(name, params.model_dump(mode="json"), Path(folder) / proof.deliverable.path)
            verdict = tried(trial, root, machine, screen)
            if verdict and not verdict["ok"]:
                yield f"{proof.day.id}/{proof.deliverable.path}: the reference fails {name}: {verdict['message']}"
