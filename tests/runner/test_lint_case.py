"""Checkers' fixtures: a bad case is its base with one thing changed, and it never loses its fault unnoticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import lay

from runner.errors import Mistakes
from runner.lint import case

DAY = {"plans/day/a.py": "one = 1\ntwo = 2\n", "plans/day/b.py": "two = 2\n", "plans/day/folder/c.py": ""}
GOOD = "file: a.py\nbase: plans/day\nwithout: [b.py, folder]\nreplace:\n  a.py:\n  - {old: one = 1, new: uno = 1}\n"
CASE = "tests/checks/some/bad/case"


def laid(tmp_path: Path, said: str, **own: str) -> dict[str, str]:
    """The files that the case consists of, in a project of one day and one good case."""
    lay(tmp_path, {**DAY, "tests/checks/some/good/plain/case.yaml": GOOD, "tests/checks/some/good/plain/d.py": "d"})
    lay(tmp_path / CASE, {"case.yaml": said, **own})
    place = tmp_path / "place"
    case.lay(tmp_path / CASE, tmp_path, place)
    return {str(file.relative_to(place)): file.read_text() for file in place.rglob("*") if file.is_file()}


def test_a_case_is_its_base_with_what_it_says_changed(tmp_path: Path) -> None:
    said = """
file: a.py
base: plans/day
without: [folder]
replace:
  a.py:
  - old: |-
      one = 1
      two
    new: |-
      two = 1
      one
  - {old: one = 2, new: ""}
"""
    assert laid(tmp_path, said, **{"b.py": "own\n"}) == {"a.py": "two = 1\n\n", "b.py": "own\n"}


def test_a_base_may_be_another_case(tmp_path: Path) -> None:
    said = "file: a.py\nbase: tests/checks/some/good/plain\nreplace: {a.py: [{old: uno, new: eins}]}\n"
    assert laid(tmp_path, said) == {"a.py": "eins = 1\ntwo = 2\n", "d.py": "d"}


@pytest.mark.parametrize(
    ("said", "where", "what"),
    [
        ("replace: {a.py: [{old: three, new: x}]}", "3: replace.a.py.0.old", "a.py holds this text 0 times, not once"),
        ("replace: {a.py: [{old: ' = ', new: x}]}", "3: replace.a.py.0.old", "a.py holds this text 2 times, not once"),
        ("replace: {a.py: [{old: '', new: x}]}", "3: replace.a.py.0.old", "at least 1 character"),
        ("replace: {z.py: [{old: one, new: x}]}", "3: replace.z.py", "No such file"),
        ("without: [z.py]", "2: without", "plans/day has no z.py"),
        ("say: wrong", "3: say", "is not a known key"),
    ],
)
def test_what_no_longer_fits_is_named(tmp_path: Path, said: str, where: str, what: str) -> None:
    with pytest.raises(Mistakes) as found:
        laid(tmp_path, f"file: a.py\nbase: plans/day\n{said}\n")
    assert f"{CASE}/case.yaml:{where}: " in str(found.value)
    assert what in str(found.value)


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Mistakes, match=f"^{CASE}/case.yaml:2: base: there is no folder plans/gone$"):
        laid(tmp_path, "file: a.py\nbase: plans/gone\n")
