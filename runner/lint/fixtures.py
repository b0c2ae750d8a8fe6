"""Every checker passes its good fixtures and fails its bad ones, with the words that the fixture expects.

tests/checks/<name>/{good,bad}/<case>/case.yaml: {file, params, says, records}; `records` is a week's folder with the
records that the check may read, from the project's root.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner import yamlfile
from runner.lint.trial import Trial, tried
from runner.preflight import Machine
from runner.show import Screen
from tasks.catalog import CHECKS


def findings(root: Path, machine: Machine, screen: Screen) -> Iterator[str]:
    for name in sorted(CHECKS):
        for side in ("good", "bad"):
            cases = sorted((root / "tests" / "checks" / name / side).glob("**/case.yaml"))
            if not cases:
                yield f"check {name} has no {side} fixture: add tests/checks/{name}/{side}/<case>/case.yaml"
            for case in cases:
                yield from _case(name, side, case, root, machine, screen)


def _case(name: str, side: str, case: Path, root: Path, machine: Machine, screen: Screen) -> Iterator[str]:
    shown = str(case.parent.relative_to(root))
    screen.progress(f"trying {shown}")
    said, _ = yamlfile.read(case, f"{shown}/case.yaml")
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        copy = Path(folder) / "case"
        shutil.copytree(case.parent, copy)
        records = (
            tuple(sorted((root / said["records"]).glob("*/experiments/*/record.json"))) if "records" in said else ()
        )
        verdict = tried(Trial(name, said.get("params", {}), copy / said["file"], records), root, machine, screen)
    if not verdict:
        return
    if verdict["ok"] != (side == "good"):
        yield f"{shown}: {name} {'passes' if verdict['ok'] else 'fails'}: {verdict['message']}"
    elif str(said.get("says", "")) not in verdict["message"]:
        yield f"{shown}: {name} says {verdict['message']!r}, not {said['says']!r}"
