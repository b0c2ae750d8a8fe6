"""Names, values and times in the form that MLflow stores. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PARAM_CHARACTERS, TAG_CHARACTERS = 6000, 5000


def milliseconds(epoch_s: float) -> int:
    """MLflow's unit of time."""
    return int(float(epoch_s) * 1000)


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as dotted names."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def plain(value: Any) -> str:
    """A value as MLflow stores it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def key_name(name: str) -> str:
    """A name that MLflow accepts: letters, digits, `_ - . / :` and spaces, at most 250."""
    return re.sub(r"[^\w\-./: ]", "_", name)[:250]


def short(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags that say something, within MLflow's length."""
    return {key_name(name): str(value)[:TAG_CHARACTERS] for name, value in tags.items() if value not in (None, "")}
