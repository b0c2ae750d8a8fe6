"""Models made on the spot, kept under `${XDG_CACHE_HOME:-~/.cache}/infra90/models`: made once, found by all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


def folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infra90" / "models"


def key(settings: Any, sources: Sequence[ModuleType]) -> str:
    """What the model depends on: its settings and the source of the modules that make it."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for module in sources:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def obtain(name: str, make: Callable[[Path], None], within: Path | None = None) -> Path:
    """The cached folder `name` (`within` another one than this user's); `make(stage)` fills it when it is not there.

    It is filled beside and renamed when whole: a killed maker leaves nothing that could be taken for a model. Of two
    makers at the same time the later one waits for the earlier one's.
    """
    home = (within or folder()) / name
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f".{name}.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # the kernel frees it with its owner
        if not home.is_dir():
            _make(home, make)
    return home


def _make(home: Path, make: Callable[[Path], None]) -> None:
    mark = f".{home.name}.making-"
    for left in home.parent.glob(f"{mark}*"):  # of a maker that was killed: whoever holds the lock is the only one
        shutil.rmtree(left, ignore_errors=True)
    stage = Path(tempfile.mkdtemp(prefix=mark, dir=home.parent))
    try:
        make(stage)
        os.replace(stage, home)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
