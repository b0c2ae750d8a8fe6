"""Every checker passes its good fixtures and fails its bad ones, with the words that the fixture expects.

tests/checks/<name>/{good,bad}/<case>/case.yaml; `runner.lint.case` tells what is in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.errors import Mistakes
from runner.lint.case import lay
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
                yield from _case(name, side, case.parent, root, machine, screen)


def _case(name: str, side: str, folder: Path, root: Path, machine: Machine, screen: Screen) -> Iterator[str]:
    shown = str(folder.relative_to(root))
    screen.progress(f"trying {shown}")
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as scratch:
        place = Path(scratch) / "case"
        try:
            case = lay(folder, root, place)
        except Mistakes as found:
            yield from map(str, found.problems)
            return
        records = tuple(sorted((root / case.records).glob("*/experiments/*/record.json"))) if case.records else ()
        verdict = tried(Trial(name, case.params, place / case.file, records), root, machine, screen)
    if not verdict:
        return
    if verdict["ok"] != (side == "good"):
        yield f"{shown}: {name} {'passes' if verdict['ok'] else 'fails'}: {verdict['message']}"
    elif case.says not in verdict["message"]:
        yield f"{shown}: {name} says {verdict['message']!r}, not {case.says!r}"
