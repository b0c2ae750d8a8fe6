"""What pydantic finds wrong with a mapping, in words that help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from runner import parsed, yamlfile
from runner.errors import Mistakes, Problem, nearest
from runner.yamlwalk import Lines
from tasks.api import Params

Wrong = tuple[tuple[str, ...], str, str]  # the key's path, what is wrong, the nearest right thing


def findings(model: type[Params], given: Mapping[str, Any]) -> list[Wrong]:
    """Every mistake that the model finds."""
    try:
        model.model_validate(dict(given))
    except ValidationError as error:
        return [_explained(detail, model) for detail in error.errors(include_url=False)]
    return []


def in_file(
    file: Path, root: Path, at: tuple[str, ...], wrong: Callable[[Mapping[str, Any]], Iterable[Wrong]]
) -> list[Problem]:
    """What `wrong` finds in a YAML file, with the lines. `at` is the full path of the whole file, for the messages."""
    try:
        found = list(wrong(parsed.cached(file, root, at)))
    except Mistakes as unread:
        return unread.problems
    shown = str(file.relative_to(root))
    return placed(found, yamlfile.read(file, shown)[1], shown, at) if found else []


def placed(found: Iterable[Wrong], lines: Lines, shown: str, at: tuple[str, ...] = ()) -> list[Problem]:
    """The same with the file, the line and the key's full path."""
    return [Problem(f"{shown}:{_line(lines, key)}", ".".join((*at, *key)), what, remedy) for key, what, remedy in found]


def _line(lines: Lines, key: tuple[str, ...]) -> int:
    """Where a key stands; for one that is missing, the mapping that should hold it."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def _explained(detail: Any, model: type[BaseModel]) -> Wrong:
    where = tuple(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        known = _inner(model, where[:-1]).model_fields
        return where, "is not a known key", nearest(where[-1], known, noun="keys here")
    if detail["type"] == "missing":
        return where, "is missing", "add it"
    if detail["type"] == "model_type":
        return where, f"must be a mapping, not {str(detail['input'])[:80]!r}", "write its keys below it"
    remedy = ""
    if detail["type"] == "literal_error":
        remedy = nearest(str(detail["input"]), re.findall("'([^']*)'", detail["ctx"]["expected"]))
    what = detail["msg"][0].lower() + detail["msg"][1:]
    return where, f"{what}, not {str(detail['input'])[:80]!r}", remedy


def _inner(model: type[BaseModel], path: tuple[str, ...]) -> type[BaseModel]:
    """The model of the mapping at a path; the last one on the way when a list or a plain mapping comes between."""
    for step in path:
        annotation = model.model_fields[step].annotation if step in model.model_fields else None
        for inner in (annotation, *get_args(annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                model = inner
    return model
