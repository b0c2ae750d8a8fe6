"""Every checker passes its good fixtures and fails its bad ones, with the words that the fixture expects.

tests/checks/<name>/{good,bad}/<case>/case.yaml; `runner.lint.case` tells what is in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from runner.errors import Mistakes
from runner.lint.bench import Bench, Step
from runner.lint.case import lay
from runner.lint.trial import Trial, tried
from tasks.catalog import CHECKS


def steps(bench: Bench) -> Iterator[Step]:
    """One for each fixture: what is wrong with its checker."""
    for name in sorted(CHECKS):
        for side in ("good", "bad"):
            cases = sorted((bench.root / "tests" / "checks" / name / side).glob("**/case.yaml"))
            if not cases:
                lack = f"check {name} has no {side} fixture: add tests/checks/{name}/{side}/<case>/case.yaml"
                yield partial(list, [lack])
            for case in cases:
                yield partial(_case, name, side, case.parent, bench)


def _case(name: str, side: str, folder: Path, bench: Bench) -> Iterator[str]:
    shown = str(folder.relative_to(bench.root))
    bench.say(f"trying {shown}")
    with tempfile.TemporaryDirectory(prefix="infra90-lint-") as scratch:
        place = Path(scratch) / "case"
        try:
            case = lay(folder, bench.root, place)
        except Mistakes as found:
            yield from map(str, found.problems)
            return
        records = tuple(sorted((bench.root / case.records).glob("*/experiments/*/record.json"))) if case.records else ()
        verdict = tried(Trial(name, case.params, place / case.file, records), bench)
    if not verdict:
        return
    if verdict["ok"] != (side == "good"):
        yield f"{shown}: {name} {'passes' if verdict['ok'] else 'fails'}: {verdict['message']}"
    elif case.says not in verdict["message"]:
        yield f"{shown}: {name} says {verdict['message']!r}, not {case.says!r}"
