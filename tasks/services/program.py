"""A learner's program as a module: its functions are what experiments measure and checkers try."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.api import UserError


def load(file: Path, names: Sequence[str], contract: str = "") -> Any:
    """Import `file`, which must define `names`. Raises UserError with what is wrong with it, and the `contract`."""
    if not file.is_file() or not file.read_bytes().strip():
        raise UserError("it is missing or empty", where=file.name)
    spec = importlib.util.spec_from_file_location(f"learner_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise UserError("this is no Python file", where=file.name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses of the file look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"it cannot be imported: {type(error).__name__}: {error}", where=file.name) from error
    if lacking := [name for name in names if not callable(getattr(module, name, None))]:
        raise UserError(f"it defines no {', '.join(lacking)}", where=file.name, remedy=contract)
    return module
