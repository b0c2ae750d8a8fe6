"""One check tried on one file, exactly as the runner would run it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import environments, execute, settings
from runner.preflight import Machine, lacks, module_lacks
from runner.show import Screen
from runner.verify import CHECK_LIMITS
from tasks.catalog import CHECKS


@dataclass(frozen=True)
class Trial:
    check: str
    params: Mapping[str, Any]
    file: Path
    records: tuple[Path, ...] = ()


def tried(trial: Trial, root: Path, machine: Machine, screen: Screen) -> dict[str, Any] | None:
    """The verdict, or None when this machine cannot run the check (then the check's own tests cover it)."""
    module = CHECKS[trial.check]
    needs = module.needs(module.Params.model_validate_json(json.dumps(dict(trial.params))))
    if lacks(needs, machine):
        return None
    python = environments.provision(root, needs.environment, "managed", screen.progress)
    if module_lacks(needs, python):
        return None
    chosen = settings.defaults(root)
    job = {
        "uuid": os.urandom(8).hex(), "file": str(trial.file), "day": str(trial.file.parent), "seed": 90,
        "records": [str(path) for path in trial.records],
        "settings": {group: chosen[group] for group in ("model", "machine")},
        "checks": [{"module": module.__name__, "params": dict(trial.params)}],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        outcome = execute.run(job, python, CHECK_LIMITS, Path(folder) / "log.txt", lambda: None, None)
    if not outcome.ok:
        return {"ok": False, "message": outcome.reason}
    verdict: dict[str, Any] = outcome.answer["verdicts"][0]
    return verdict
