"""The groups of conf/ as plain mappings. Light: read without Hydra for what `status` compares records with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import parsed
from runner.errors import Mistakes, Problem, nearest

GROUPS = ("model", "engine", "machine", "tracking", "environment")
MEASURED = ("model", "engine", "machine")  # what a kind or a check is told
Settings = Mapping[str, Any]


def defaults(root: Path) -> dict[str, Any]:
    """Each group's default choice, as conf/config.yaml names it."""
    return {group: choice(root, group, name) for group, name in default_names(root).items()}


def default_names(root: Path) -> dict[str, str]:
    """The name of each group's default choice. Raises Mistakes when conf/config.yaml names none that there is."""
    listed = parsed.cached(root / "conf" / "config.yaml", root).get("defaults")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    named = {group: name for entry in entries for group, name in entry.items()}
    if lost := [group for group in GROUPS if not (root / "conf" / group / f"{named.get(group)}.yaml").is_file()]:
        raise Mistakes(_unknown(root, group, named.get(group)) for group in lost)
    return {group: str(named[group]) for group in GROUPS}


def _unknown(root: Path, group: str, name: Any) -> Problem:
    from runner import yamlfile

    file = root / "conf" / "config.yaml"
    line = yamlfile.read(file, str(file))[1].get(("defaults",), 1)
    what = f"no {group} '{name}'" if name is not None else f"names no {group}"
    remedy = nearest(str(name), choices(root, group), noun=f"{group}s")
    return Problem(f"conf/config.yaml:{line}", "defaults", what, remedy)


def choice(root: Path, group: str, name: str) -> dict[str, Any]:
    """One choice of a group."""
    return parsed.cached(root / "conf" / group / f"{name}.yaml", root, (group,))


def environments(root: Path) -> list[str]:
    """The runner's own environment and those that a lock describes."""
    return [
        "runner",
        *sorted({path.name.partition(".")[0] for path in (root / "conf/environment/locks").glob("*.txt")}),
    ]


def choices(root: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (root / "conf" / group).glob("*.yaml"))
