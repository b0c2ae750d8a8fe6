"""A module's own code: what a record and a verdict depend on. Light."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

STARTED = re.compile(rb'"(tasks(?:\.\w+)+)"')  # a module that is run as a program of its own: ["-m", "tasks.x.child"]


@functools.cache
def source(module: str) -> tuple[Path, ...]:
    """A kind's own code: its module and the modules of its package that it imports or starts, directly or not."""
    package, seen, queue = module.rpartition(".")[0], dict[str, Path](), [module]
    code = Path(__file__).resolve().parent.parent
    while queue:
        name = queue.pop()
        file = code / (name.replace(".", "/") + ".py")
        if name not in seen and file.is_file():
            seen[name] = file
            if package != "tasks":  # what lies beside the domains (tasks.api) is nobody's own
                queue += [found for found in _imports(file) if found.startswith(package + ".")]
    return tuple(seen[name] for name in sorted(seen))


def _imports(file: Path) -> Iterator[str]:
    text = file.read_bytes()
    yield from (name.decode() for name in STARTED.findall(text))
    for node in _statements(ast.parse(text).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _statements(block: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every statement, however deep; `ast.walk` goes through the expressions too, which takes four times as long."""
    for node in block:
        yield node
        for inner in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from _statements(getattr(node, inner, ()))
