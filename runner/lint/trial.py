"""One check tried on one file, exactly as the runner would run it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import environments, settings, verify
from runner.preflight import Machine, lacks, module_lacks
from runner.request import Request
from runner.show import Screen
from tasks.catalog import CHECKS


@dataclass(frozen=True)
class Trial:
    check: str
    params: Mapping[str, Any]
    file: Path
    records: tuple[Path, ...] = ()


def tried(trial: Trial, root: Path, machine: Machine, screen: Screen) -> dict[str, Any] | None:
    """The verdict, or None when this machine cannot run the check (then the check's own tests cover it)."""
    check, chosen = CHECKS[trial.check], settings.defaults(root)
    params = check.Params.model_validate_json(json.dumps(dict(trial.params)))
    needs = check.needs(params)
    if lacks(needs, machine):
        return None
    if module_lacks(needs, environments.provision_all(root, needs, "managed", screen.progress)):
        return None
    request = Request(root=root, settings=chosen, defaults=chosen, plain={})
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        return verify.tried(check, params, trial.file, trial.records, request, Path(folder) / "log.txt")
