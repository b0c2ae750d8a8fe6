"""YAML files read strictly: every mistake is found with its line, nothing is resolved or instantiated.

The standard library and PyYAML's C parser; `runner.parsed` keeps what it reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode

from runner.errors import Mistakes, Problem
from runner.yamlwalk import Lines, kind_of, walk

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_BYTES, MAX_DEPTH = 1_000_000, 40
OPENS, CLOSES = (yaml.SequenceStartEvent, yaml.MappingStartEvent), (yaml.SequenceEndEvent, yaml.MappingEndEvent)


def read(path: Path, shown: str, at: tuple[str, ...] = ()) -> tuple[dict[str, Any], Lines]:
    """The mapping in a file, and the line of each of its keys by path. Raises Mistakes with all that is wrong.

    `at` is the full path of the whole file (`plan`, `days`, `day18`), for the messages.
    """
    text = _text(path, shown)
    try:
        _measure_depth(text, shown)
        return _parse(text, shown, at)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown}:{mark.line + 1}" if mark else shown
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise Mistakes([Problem(where, "", f"is not valid YAML: {said}", _syntax_hint(text, mark))]) from None
    except yaml.reader.ReaderError as error:
        line = text.partition(chr(error.character))[0].count("\n") + 1
        what = f"holds a character that YAML does not allow: U+{error.character:04X}"
        raise Mistakes([Problem(f"{shown}:{line}", "", what, "save the file as plain UTF-8 text")]) from None
    except (yaml.YAMLError, ValueError, KeyError) as error:
        raise Mistakes([Problem(shown, "", f"is not valid YAML: {error}")]) from None


def _text(path: Path, shown: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Mistakes([Problem(shown, "", f"cannot be read: {error.strerror}")]) from None
    if len(data) > MAX_BYTES:
        raise Mistakes([Problem(shown, "", f"is larger than {MAX_BYTES // 1000:,} kB", "a plan holds words, not data")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Mistakes([Problem(f"{shown}:{line}", "", "is not UTF-8", "save the file as UTF-8")]) from None


def _measure_depth(text: str, shown: str) -> None:
    """Refuse deep nesting while the parser only counts: building such a tree would overflow its C stack."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        depth += isinstance(event, OPENS) - isinstance(event, CLOSES)
        if depth > MAX_DEPTH:
            where = f"{shown}:{event.start_mark.line + 1}" if event.start_mark else shown
            raise Mistakes([Problem(where, "", f"is nested more than {MAX_DEPTH} deep", "a plan needs less than 10")])


def _parse(text: str, shown: str, at: tuple[str, ...]) -> tuple[dict[str, Any], Lines]:
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise Mistakes([Problem(f"{shown}:1", ".".join(at), "is empty", "see CONTRIBUTING.md, 'Add a day'")])
        if not isinstance(node, MappingNode):
            raise Mistakes([Problem(f"{shown}:1", ".".join(at), f"must hold a mapping, not a {kind_of(node)}")])
        lines: Lines = {}
        problems = list(walk(node, lines, shown, at))
        if problems:
            raise Mistakes(problems)
        data: dict[str, Any] = loader.construct_document(node)
        return data, lines
    finally:
        loader.dispose()


def _syntax_hint(text: str, mark: Any) -> str:
    if mark is None:
        return ""
    rows = text.splitlines()
    return f"the line reads: {rows[mark.line].strip()}" if mark.line < len(rows) else "the file ends too early"
