"""The groups of conf/ as plain mappings. Light: read without Hydra for what `status` compares records with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import parsed

GROUPS = ("model", "engine", "machine", "tracking", "environment")
MEASURED = ("model", "engine", "machine")  # what a kind or a check is told
Settings = Mapping[str, Any]


def defaults(root: Path) -> dict[str, Any]:
    """Each group's default choice, as conf/config.yaml names it."""
    config = parsed.cached(root / "conf" / "config.yaml", root)
    chosen = {k: v for entry in config["defaults"] if isinstance(entry, dict) for k, v in entry.items()}
    return {group: choice(root, group, chosen[group]) for group in GROUPS}


def choice(root: Path, group: str, name: str) -> dict[str, Any]:
    """One choice of a group."""
    return parsed.cached(root / "conf" / group / f"{name}.yaml", root)


def environments(root: Path) -> list[str]:
    """The runner's own environment and those that a lock describes."""
    return [
        "runner",
        *sorted({path.name.partition(".")[0] for path in (root / "conf/environment/locks").glob("*.txt")}),
    ]


def choices(root: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (root / "conf" / group).glob("*.yaml"))
