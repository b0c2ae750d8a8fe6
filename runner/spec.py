"""What a record depends on, and what changed since. Light.

`measurement` names what a *point* was measured with (kind, params, files, settings, backend): a resumed run keeps the
points that carry the same name. `changes` compares a *record* with today's plan, settings and files.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_HASHES: dict[tuple[str, int, int], str] = {}


def digest(value: Any) -> str:
    """A short stable hash of plain data."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file, or of a folder's names and files; '' when it is not there. Read again only when it changed."""
    try:
        entry = os.stat(path)
    except OSError:
        return ""
    return _folder_hash(str(path)) if stat.S_ISDIR(entry.st_mode) else _read_hash(path, entry)


def _folder_hash(folder: str) -> str:
    with os.scandir(folder) as found:
        names = sorted(entry.name for entry in found if entry.name != "__pycache__" and entry.name[0] != ".")
    return digest([[name, file_hash(os.path.join(folder, name))] for name in names])


def _read_hash(path: Path | str, entry: os.stat_result) -> str:
    key = (str(path), entry.st_mtime_ns, entry.st_size)
    if key not in _HASHES:
        with open(path, "rb") as file:
            _HASHES[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _HASHES[key]


def inputs(files: Iterable[Path], root: Path) -> dict[str, str]:
    """Path (from the project's root where it lies inside) → SHA-256."""
    return {shown(file, root): file_hash(file) for file in files}


def shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def measurement(kind: str, params: Mapping[str, Any], used: Mapping[str, str], settings: Any, backend: str) -> str:
    """What a point was measured with."""
    return digest([kind, params, used, settings, backend])


def changes(record: Mapping[str, Any], stanza: Mapping[str, Any], settings: Mapping[str, Any], root: Path) -> list[str]:
    """What a record depends on that is not as it was: the experiment's keys, settings groups, files."""
    was = record["stanza"]
    found = [f"the experiment's {key}" for key in stanza if key != "title" and was.get(key) != stanza[key]]
    found += [f"the {group} settings" for group, old in record["settings"].items() if settings.get(group) != old]
    found += [path for path, old in record["inputs"].items() if file_hash(os.path.join(root, path)) != old]
    return found
