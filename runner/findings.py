"""What pydantic finds wrong with a mapping, in words that help."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from runner.errors import nearest
from tasks.api import Params

Wrong = tuple[tuple[str, ...], str, str]  # the key's path, what is wrong, the nearest right thing


def findings(model: type[Params], given: Mapping[str, Any]) -> list[Wrong]:
    """Every mistake that the model finds."""
    try:
        model.model_validate(dict(given))
    except ValidationError as error:
        return [_explained(detail, model) for detail in error.errors(include_url=False)]
    return []


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
