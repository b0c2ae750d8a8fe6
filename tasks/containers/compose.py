"""A service of a compose file as `docker compose` would start it: variables put in, command and mounts read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError

VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """`command` follows the image's entry point; `volumes` are `source:target[:ro]`."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    volumes: tuple[str, ...]
    network: str
    whole: Mapping[str, Any]


def filled(text: str, given: Mapping[str, str], where: str) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?message}` replaced. UserError with the message of a missing one."""

    def value(match: re.Match[str]) -> str:
        name, mark, rest = match[1], match[2] or "", match[3] or ""
        found = given.get(name)
        if found or (found is not None and not mark.startswith(":")):
            return found
        if "?" in mark:
            raise UserError(f"{name} is not set: {rest}", where=where)
        return rest

    return VARIABLE.sub(value, text)


def service(file: Path, name: str, given: Mapping[str, str]) -> Service:
    """UserError when the file is no compose file with that service."""
    import yaml

    try:
        # comments are no part of the file: a variable that they mention need not be set
        parsed = yaml.safe_load(file.read_text(encoding="utf-8"))
        found = (parsed or {})["services"][name]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"no compose file with a service {name!r}: {error!r}", where=file.name) from error
    if not isinstance(found, dict):
        raise UserError(f"the service {name!r} is not a mapping", where=file.name)
    whole = _deep(found, given, file.name)
    command, environment = whole.get("command") or [], whole.get("environment") or {}
    if isinstance(command, str) or isinstance(environment, list):
        raise UserError("command must be a list and environment a mapping", where=file.name)
    return Service(
        str(whole.get("image", "")), tuple(map(str, command)), {key: str(one) for key, one in environment.items()},
        tuple(map(str, whole.get("volumes") or [])), str(whole.get("network_mode", "")), whole,
    )  # fmt: skip


def _deep(tree: Any, given: Mapping[str, str], where: str) -> Any:
    if isinstance(tree, dict):
        return {key: _deep(value, given, where) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_deep(value, given, where) for value in tree]
    return filled(tree, given, where) if isinstance(tree, str) else tree
