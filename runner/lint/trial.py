"""One check tried on one file, exactly as the runner would run it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import environments, settings, verify
from runner.lint.bench import Bench
from runner.preflight import lacks, module_lacks
from runner.request import Request
from tasks.catalog import CHECKS


@dataclass(frozen=True)
class Trial:
    check: str
    params: Mapping[str, Any]
    file: Path
    records: tuple[Path, ...] = ()


def tried(trial: Trial, bench: Bench) -> dict[str, Any] | None:
    """The verdict, or None when this machine cannot run the check (then the check's own tests cover it)."""
    check, chosen = CHECKS[trial.check], settings.defaults(bench.root)
    params = check.Params.model_validate_json(json.dumps(dict(trial.params)))
    needs = check.needs(params)
    if lacks(needs, bench.machine):
        return None
    if module_lacks(needs, environments.provision_all(bench.root, needs, "managed", bench.say)):
        return None
    request = Request(root=bench.root, settings=chosen, defaults=chosen, plain={})
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        log = Path(folder) / "log.txt"
        return verify.tried(check, params, trial.file, trial.records, request, log, bench.tick)
