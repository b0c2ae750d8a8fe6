"""What no plan may hold, found in the parsed tree of a YAML file. Light."""

from __future__ import annotations

from collections.abc import Iterator

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from runner.errors import Problem

Lines = dict[tuple[str, ...], int]
TAG = "tag:yaml.org,2002:"
PLAIN = {f"{TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
WORDS = {"int": "a number", "float": "a number", "bool": "true/false", "null": "nothing", "timestamp": "a date"}


def kind_of(node: Node) -> str:
    """The node's type in a word that the user knows."""
    return "list" if isinstance(node, SequenceNode) else "mapping" if isinstance(node, MappingNode) else "single value"


def walk(root: Node, lines: Lines, shown: str, at: tuple[str, ...]) -> Iterator[Problem]:
    """Note each key's line by its path in the file, and yield what no plan may hold.

    That is: doubled keys, keys that are no text, aliases and merge keys (the plan is read by people, and an alias of
    aliases grows without end), `_target_`, resolvers, dates and other tags.
    """
    return _Walk(lines, shown, at).node(root, ())


class _Walk:
    def __init__(self, lines: Lines, shown: str, at: tuple[str, ...]) -> None:
        self.lines, self.shown, self.at = lines, shown, at
        self.seen: set[int] = set()

    def problem(self, node: Node, path: tuple[str, ...], what: str, remedy: str) -> Problem:
        return Problem(f"{self.shown}:{node.start_mark.line + 1}", ".".join((*self.at, *path)), what, remedy)

    def node(self, node: Node, path: tuple[str, ...]) -> Iterator[Problem]:
        if id(node) in self.seen:
            where = self.lines.get(path, node.start_mark.line + 1)
            what, remedy = "is an alias (*name) of another part", "write it out: a plan takes no aliases"
            yield Problem(f"{self.shown}:{where}", ".".join((*self.at, *path)), what, remedy)
            return
        self.seen.add(id(node))
        if node.tag not in PLAIN:
            name = node.tag.removeprefix(TAG)
            remedy = "quote it" if name == "timestamp" else "write plain text, numbers, lists and mappings"
            yield self.problem(node, path, f"is read as {WORDS.get(name, name)}", remedy)
        if isinstance(node, MappingNode):
            yield from self.mapping(node, path)
        elif isinstance(node, SequenceNode):
            for index, value in enumerate(node.value):
                begins = node if id(value) in self.seen else value  # an alias has the line of what it names
                self.lines[*path, str(index)] = begins.start_mark.line + 1
                yield from self.node(value, (*path, str(index)))
        elif isinstance(node, ScalarNode) and "${" in node.value:
            what = "a plan holds plain values; '${…}' would be resolved"
            yield self.problem(node, path, what, "write the value itself")

    def mapping(self, node: MappingNode, path: tuple[str, ...]) -> Iterator[Problem]:
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                yield self.problem(key, path, "a key must be a single word", "")
                continue
            here, line = (*path, str(key.value)), key.start_mark.line + 1
            if here in self.lines:
                yield self.problem(key, here, "is given twice", f"it stands first on line {self.lines[here]}; keep one")
                continue
            self.lines[here] = line
            yield from self.key(key, here)
            yield from self.node(value, here)

    def key(self, key: ScalarNode, here: tuple[str, ...]) -> Iterator[Problem]:
        if key.tag == f"{TAG}merge":
            yield self.problem(key, here, "is a merge key", "write the keys out: a plan takes no merges")
        elif key.tag != f"{TAG}str":
            name = key.tag.removeprefix(TAG)
            yield self.problem(
                key, here, f"is read as {WORDS.get(name, name)}; a key is a text", f'quote it: "{key.value}"'
            )
        if key.value == "_target_":
            yield self.problem(key, here, "a plan names kinds, it never names code", "remove the key")
        if "${" in key.value:
            yield self.problem(key, here, "a plan holds plain words; '${…}' would be resolved", "write the word itself")
