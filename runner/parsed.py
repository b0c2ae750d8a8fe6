"""YAML files by their parsed copies in the user's cache. Light: PyYAML is loaded only for a file that changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def cache_home() -> Path:
    """Where everything that can be made again is kept: outside the checkout, `$XDG_CACHE_HOME/infra90`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "infra90")


def cached(path: Path, root: Path, at: tuple[str, ...] = ()) -> dict[str, Any]:
    """The mapping in a file, from its parsed copy when the file has not changed since. Raises Mistakes as `read` does.

    `at` is the full path of the whole file (`plan`, `days`, `day18`), for the messages. Parsing 90 day files takes
    most of a second; reading their copies takes a few milliseconds.
    """
    try:
        stat = os.stat(path)
    except OSError:
        return _read(path, root, at)  # says why not
    copy = f"{cache_home()}/parsed/{os.path.abspath(path).replace('/', '%')}.json"
    stamp = [stat.st_mtime_ns, stat.st_size, stat.st_ino]
    try:
        with open(copy, "rb") as file:
            stored = json.loads(file.read())
        if stored["stamp"] == stamp:
            mapping: dict[str, Any] = stored["data"]
            return mapping
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no copy, or a torn one: the file itself is the truth
    data = _read(path, root, at)
    _keep(Path(copy), {"stamp": stamp, "data": data})
    return data


def _read(path: Path, root: Path, at: tuple[str, ...]) -> dict[str, Any]:
    from runner import yamlfile

    return yamlfile.read(path, str(path.relative_to(root)), at)[0]


def _keep(copy: Path, value: dict[str, Any]) -> None:
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        staged = copy.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        staged.replace(copy)
    except OSError:
        pass  # a full disk: the copy is only for speed
