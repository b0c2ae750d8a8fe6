"""A checker's fixture: what its case.yaml says, and its files laid out as the checker will find them.

A bad case is a base plus what is wrong in it. Its files are those of `base` (a folder, or another case) less `without`,
its own over them, then the edits of `replace`. An edit whose old text is not there exactly once is a mistake, so that
no case loses its fault when its base changes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from runner import yamlfile
from runner.errors import Mistakes, Problem, mistake
from runner.findings import findings, placed
from runner.yamlwalk import Lines
from tasks.api import Params


class Edit(Params):
    old: str = Field(min_length=1)
    new: str


class Case(Params):
    """A case.yaml. Folders are named from the project's root, files from the case's own."""

    file: str
    params: dict[str, Any] = Field(default_factory=dict)
    says: str = ""  # part of the verdict's message
    records: str = ""  # a week's folder with the records that the check may read
    base: str = ""
    without: list[str] = Field(default_factory=list)
    replace: dict[str, list[Edit]] = Field(default_factory=dict)


def lay(folder: Path, root: Path, place: Path) -> Case:
    """The case's files in `place`, and what is asked of them. Raises Mistakes with all that is wrong in case.yaml."""
    shown = f"{folder.relative_to(root)}/case.yaml"
    case, lines = _read(folder / "case.yaml", shown)
    if case.base:
        _lay_base(case, root, place, f"{shown}:{lines['base',]}")
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("case.yaml"), dirs_exist_ok=True)
    problems = [each for name in case.replace for each in _edit(place / name, name, case, lines, shown)]
    if problems:
        raise Mistakes(problems)
    return case


def _read(file: Path, shown: str) -> tuple[Case, Lines]:
    said, lines = yamlfile.read(file, shown)
    if found := placed(findings(Case, said), lines, shown):
        raise Mistakes(found)
    return Case.model_validate(said), lines


def _lay_base(case: Case, root: Path, place: Path, where: str) -> None:
    base = root / case.base
    if not base.is_dir():
        raise mistake(f"there is no folder {case.base}", where=where, key="base")
    if (base / "case.yaml").exists():
        lay(base, root, place)
    else:
        shutil.copytree(base, place, ignore=shutil.ignore_patterns("__pycache__"))
    for name in case.without:
        target = place / name
        if not target.exists():
            raise mistake(f"{case.base} has no {name}", where=where, key="without")
        shutil.rmtree(target) if target.is_dir() else target.unlink()


def _edit(file: Path, name: str, case: Case, lines: Lines, shown: str) -> Iterator[Problem]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield Problem(f"{shown}:{lines['replace', name]}", f"replace.{name}", f"cannot be edited: {error}")
        return
    for index, edit in enumerate(case.replace[name]):
        if (count := text.count(edit.old)) != 1:
            where = f"{shown}:{lines['replace', name, str(index)]}"
            what = f"{name} holds this text {count} times, not once: {edit.old!r}"
            yield Problem(where, f"replace.{name}.{index}.old", what, f"{case.base} has changed: mend the edit")
        text = text.replace(edit.old, edit.new)
    file.write_text(text, encoding="utf-8")
