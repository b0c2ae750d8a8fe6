"""Every deliverable's checks fail on an empty folder; what we ship as the reference passes them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from runner import workspace
from runner.jobs import Proof, Work
from runner.lint.bench import Bench, Step
from runner.lint.trial import Trial, tried


def steps(work: Work, bench: Bench) -> Iterator[Step]:
    """One for each deliverable: what is wrong with its checks or its reference."""
    return (partial(_proof, proof, bench) for proof in work.proofs)


def _proof(proof: Proof, bench: Bench) -> Iterator[str]:
    bench.say(f"proving {proof.day.id}/{proof.deliverable.path}")
    yield from _empty(proof, bench)
    if proof.deliverable.made_by == "reference":
        yield from _reference(proof, bench)


def _empty(proof: Proof, bench: Bench) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        for name, _, params in proof.checks:
            trial = Trial(name, params.model_dump(mode="json"), Path(folder) / proof.deliverable.path)
            verdict = tried(trial, bench)
            if verdict and verdict["ok"]:
                yield f"{proof.day.id}/{proof.deliverable.path}: {name} passes on an empty folder"


def _reference(proof: Proof, bench: Bench) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        for name in workspace.references(proof.day):
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(proof.day.folder / name, target)
        for name, _, params in proof.checks:
            trial = Trial(name, params.model_dump(mode="json"), Path(folder) / proof.deliverable.path)
            verdict = tried(trial, bench)
            if verdict and not verdict["ok"]:
                yield f"{proof.day.id}/{proof.deliverable.path}: the reference fails {name}: {verdict['message']}"
