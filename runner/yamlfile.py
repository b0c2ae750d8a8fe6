"""YAML files read strictly: every mistake is found with its line, nothing is resolved or instantiated.

Light: the standard library and PyYAML's C parser.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from runner.errors import Mistakes, Problem

Lines = dict[tuple[str, ...], int]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path, shown: str) -> tuple[dict[str, Any], Lines]:
    """The mapping in a file, and the line of each of its keys by path. Raises Mistakes with all that is wrong."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise Mistakes([Problem(f"{shown}:{line}", "", "is not UTF-8", "save the file as UTF-8")]) from None
    except OSError as error:
        raise Mistakes([Problem(shown, "", f"cannot be read: {error.strerror}")]) from None
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise Mistakes([Problem(f"{shown}:1", "", "is empty", "see CONTRIBUTING.md, 'Add a day'")])
        if not isinstance(node, MappingNode):
            raise Mistakes([Problem(f"{shown}:1", "", f"must hold a mapping, not a {kind_of(node)}")])
        lines: Lines = {}
        problems = list(_walk(node, (), lines, shown))
        if problems:
            raise Mistakes(problems)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown}:{mark.line + 1}" if mark else shown
        raise Mistakes([Problem(where, "", f"is not valid YAML: {error.problem}", _syntax_hint(text, mark))]) from None
    except yaml.YAMLError as error:
        raise Mistakes([Problem(shown, "", f"is not valid YAML: {error}")]) from None
    finally:
        loader.dispose()
    return data, lines


def cache_home() -> Path:
    """Where everything that can be made again is kept: outside the checkout, `$XDG_CACHE_HOME/infra90`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infra90"


def kind_of(node: Node) -> str:
    """The node's type in a word that the user knows."""
    return "list" if isinstance(node, SequenceNode) else "mapping" if isinstance(node, MappingNode) else "single value"


def _syntax_hint(text: str, mark: Any) -> str:
    if mark is None:
        return ""
    rows = text.splitlines()
    return f"the line reads: {rows[mark.line].strip()}" if mark.line < len(rows) else "the file ends too early"


def _walk(node: Node, path: tuple[str, ...], lines: Lines, shown: str) -> Any:
    """Note each key's line, and yield what no plan may hold: doubled keys, `_target_`, resolvers."""
    if isinstance(node, MappingNode):
        for key_node, value in node.value:
            key = str(key_node.value)
            here, line = (*path, key), key_node.start_mark.line + 1
            where = f"{shown}:{line}"
            if not isinstance(key_node, ScalarNode):
                yield Problem(where, ".".join(path), "a key must be a single word")
                continue
            if here in lines:
                remedy = f"it stands first on line {lines[here]}; keep one"
                yield Problem(where, ".".join(here), "is given twice", remedy)
            if key == "_target_":
                yield Problem(where, ".".join(here), "a plan names kinds, it never names code", "remove the key")
            lines[here] = line
            yield from _walk(value, here, lines, shown)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, str(index))
            lines[here] = value.start_mark.line + 1
            yield from _walk(value, here, lines, shown)
    elif isinstance(node, ScalarNode) and "${" in node.value:
        yield Problem(
            f"{shown}:{node.start_mark.line + 1}", ".".join(path),
            "a plan holds plain values; '${…}' would be resolved", "write the value itself",
        )  # fmt: skip


def cached(path: Path, root: Path) -> dict[str, Any]:
    """The mapping in a file, from the parsed copy in the user's cache when the file has not changed since.

    Parsing 90 day files takes most of a second; reading their copies takes a few milliseconds.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        return read(path, str(path.relative_to(root)))[0]  # says that it is not there
    copy = cache_home() / "parsed" / (str(path.absolute()).replace("/", "%") + ".json")
    stamp = [stat.st_mtime_ns, stat.st_size, stat.st_ino]
    try:
        stored = json.loads(copy.read_bytes())
        if stored["stamp"] == stamp:
            mapping: dict[str, Any] = stored["data"]
            return mapping
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no copy, or a torn one: the file itself is the truth
    data, _ = read(path, str(path.relative_to(root)))
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        staged = copy.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps({"stamp": stamp, "data": data}, ensure_ascii=False), encoding="utf-8")
        staged.replace(copy)
    except (OSError, TypeError):
        pass  # a full disk, or a YAML date that JSON has no word for: `build` names it, the copy is only for speed
    return data
