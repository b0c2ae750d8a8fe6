"""Every checker passes its good fixtures and fails its bad ones, with the words that the fixture expects.

tests/checks/<name>/{good,bad}/<case>/case.yaml: {file, params, says, records, base, without}. From the project's root,
`records` is a week's folder with the records that the check may read, `base` a folder over which the case's own files
are laid, `without` what is taken out of that: a bad case then holds only what is wrong in it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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


def laid(case: Path, said: Mapping[str, Any], root: Path, place: Path) -> Path:
    """The case's files in `place`, over those of its base."""
    if "base" in said:
        shutil.copytree(root / said["base"], place, ignore=shutil.ignore_patterns("__pycache__"))
    for name in said.get("without", []):
        target = place / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    return Path(shutil.copytree(case, place, dirs_exist_ok=True))


def _case(name: str, side: str, case: Path, root: Path, machine: Machine, screen: Screen) -> Iterator[str]:
    shown = str(case.parent.relative_to(root))
    screen.progress(f"trying {shown}")
    said, _ = yamlfile.read(case, f"{shown}/case.yaml")
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as folder:
        copy = laid(case.parent, said, root, Path(folder) / "case")
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
