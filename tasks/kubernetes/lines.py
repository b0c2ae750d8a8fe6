"""YAML documents with the line of every value, for messages that say where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError


@dataclass(frozen=True)
class Document:
    """One part of a YAML file: its plain data and, beside it, the node tree that knows the lines."""

    data: Any
    node: Any

    @property
    def kind(self) -> str:
        return str(self.data.get("kind", "")) if isinstance(self.data, dict) else ""

    def line(self, path: Iterable[Any] = ()) -> int:
        """The line of the value at `path` (keys and indices), or of the nearest one above it that is there."""
        import yaml

        node = self.node
        for step in path:
            if isinstance(node, yaml.MappingNode):
                below = next((value for key, value in node.value if key.value == step), None)
            else:
                below = node.value[step] if isinstance(node, yaml.SequenceNode) else None
            if below is None:
                break
            node = below
        return int(node.start_mark.line) + 1


def documents(file: Path) -> list[Document]:
    """The non-empty documents of a file. Raises UserError naming the line of a syntax error."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
        parts = [part for part in yaml.safe_load_all(text) if part is not None]
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=file.name) from error
    except UnicodeDecodeError as error:
        raise UserError("is not UTF-8", where=file.name) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"is not YAML: {error.problem}", where=f"{file.name}:{line}") from error
    except yaml.YAMLError as error:
        raise UserError(f"is not YAML: {error}".splitlines()[0], where=file.name) from error
    nodes = [node for node in nodes if not (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null"))]
    return [Document(data, node) for data, node in zip(parts, nodes, strict=True)]
