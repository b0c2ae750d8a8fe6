"""The learner's files: laid from the plan's references, never overwritten once the learner has changed them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from runner import store
from runner.plan import Day
from runner.spec import file_hash


def references(day: Day) -> list[str]:
    """The day's reference files, relative to its folder."""
    return sorted(name for name in _inside(day.folder, "") if name != "day.yaml")


def lay(day: Day, root: Path) -> list[str]:
    """Lay the reference files into the day's workspace. Returns those that the learner has made their own."""
    place, memory = store.day_dir(root, day.week, day.id), store.laid_file(root, day.week, day.id)
    laid = store.read_json(memory) or {}
    own, now = [], dict(laid)
    for name in references(day):
        reference, target = file_hash(day.folder / name), place / name
        if target.exists() and file_hash(target) not in (laid.get(name), reference):
            own.append(name)
            continue
        if file_hash(target) != reference:
            target.parent.mkdir(parents=True, exist_ok=True)
            store.write_bytes(target, (day.folder / name).read_bytes())
        now[name] = reference
    if now != laid:
        store.write_json(memory, now)
    return own


def _inside(base: Path, name: str) -> list[str]:
    """A file's own name; of a folder, the names of the files in it."""
    files = (path for path in (base / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [str(path.relative_to(base)) for path in files] if (base / name).is_dir() else [name]


def variant_dir(day: Day, root: Path, variant: str) -> Path:
    """A workspace for what was overridden on the command line, so that it cannot touch the plan's own deliverables."""
    return store.day_dir(root, day.week, day.id) / "variants" / variant


def lay_variant(day: Day, root: Path, variant: str, files: Iterable[str]) -> Path:
    """Copy the learner's files, and what other experiments made for this one, into a variant's workspace."""
    base, place = store.day_dir(root, day.week, day.id), variant_dir(day, root, variant)
    for name in {*references(day), *(each for file in files for each in _inside(base, file))}:
        if (base / name).is_file() and not (place / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(base / name, place / name)
    return place
