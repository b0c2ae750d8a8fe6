"""Takes typed values out of a plan's plain mapping and notes every mistake with its place. Light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runner import yamlfile
from runner.errors import Mistakes, Problem, nearest

T = TypeVar("T")
WORDS = {str: "a text", list: "a list", dict: "a mapping", int: "a whole number", float: "a number", bool: "true/false"}


@dataclass
class Sources:
    """Where each key of a plan stands. Files are parsed for their lines only when there is something to report."""

    root: Path
    folders: Mapping[str, Path]
    overridden: frozenset[str] = frozenset()
    lines: dict[str, yamlfile.Lines] = field(default_factory=dict)

    def where(self, path: tuple[str, ...]) -> str:
        """`plans/week03/day18/day.yaml:31` for ('plan', 'days', 'day18', …), or 'command line' if it was set there."""
        if any(".".join(path[:n]) in self.overridden for n in range(1, len(path) + 1)):
            return "command line"
        day, inner = path[2], path[3:]
        if day not in self.folders:  # an ad hoc task
            return "command line"
        file = self.folders[day] / "day.yaml"
        shown = str(file.relative_to(self.root))
        if day not in self.lines:
            try:
                self.lines[day] = yamlfile.read(file, shown)[1]
            except Mistakes:
                self.lines[day] = {}
        known = self.lines[day]
        while inner and inner not in known:
            inner = inner[:-1]
        return f"{shown}:{known.get(inner, 1)}"


class Reader:
    """One mapping of a plan. Each accessor takes a key; `close` reports the keys that nobody took."""

    def __init__(self, value: Any, path: tuple[str, ...], sources: Sources, problems: list[Problem]) -> None:
        self.path, self.sources, self.problems = path, sources, problems
        self.taken: set[str] = set()
        self.value: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            self.problem("", f"must be a mapping, not {_shown(value)}")

    @property
    def key(self) -> str:
        return self.path[-1]

    def problem(self, key: str, what: str, remedy: str = "") -> None:
        path = (*self.path, key) if key else self.path
        self.problems.append(Problem(self.sources.where(path), ".".join(path), what, remedy))

    def plain(self, key: str, kind: type[T], *, required: bool = True) -> T | None:
        """The value of that type, or None (and a problem) when it is missing or of another type."""
        self.taken.add(key)
        if key not in self.value:
            if required:
                self.problem("", f"has no '{key}'", f"add '{key}: …' ({WORDS[kind]})")
            return None
        value = self.value[key]
        if isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)):
            return value
        self.problem(key, f"must be {WORDS[kind]}, not {_shown(value)}")
        return None

    def number(self, key: str, *, default: float | None = None, above: float | None = None) -> float:
        self.taken.add(key)
        value = self.value.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            what = f"has no '{key}'" if value is None else f"must be a number, not {_shown(value)}"
            self.problem(key if value is not None else "", what)
            return 1.0
        if above is not None and not value > above:
            self.problem(key, f"must be more than {above:g}, not {value}")
        return value

    def text(self, key: str) -> dict[str, str]:
        """A text in both languages, `{en: …, zh: …}`."""
        self.taken.add(key)
        if key not in self.value:
            self.problem("", f"has no '{key}'", f"add '{key}: {{en: …, zh: …}}'")
            return {"en": "", "zh": ""}
        inner = Reader(self.value[key], (*self.path, key), self.sources, self.problems)
        both = inner.both()
        inner.close()
        return both

    def both(self) -> dict[str, str]:
        return {language: self.plain(language, str) or "" for language in ("en", "zh")}

    def texts(self, key: str, *, required: bool = True) -> tuple[dict[str, str], ...]:
        values = []
        for item in self.items(key, required=required):
            values.append(item.both())
            item.close()
        return tuple(values)

    def words(self, key: str, *, required: bool = True) -> tuple[str, ...]:
        """A list of texts."""
        values = self.plain(key, list, required=required) or []
        for index, value in enumerate(values):
            if not isinstance(value, str):
                self.problem(key, f"item {index + 1} must be a text, not {_shown(value)}")
        return tuple(str(value) for value in values)

    def items(self, key: str, *, required: bool = True) -> list[Reader]:
        """A list of mappings. (Their own unknown keys are reported when the caller closes them.)"""
        values = self.plain(key, list, required=required) or []
        return [Reader(v, (*self.path, key, str(i)), self.sources, self.problems) for i, v in enumerate(values)]

    def mapping(self, key: str, *, required: bool = True) -> Reader:
        value = self.plain(key, dict, required=required)
        return Reader({} if value is None else value, (*self.path, key), self.sources, self.problems)

    def each_mapping(self) -> Iterator[Reader]:
        for key, value in self.value.items():
            yield Reader(value, (*self.path, str(key)), self.sources, self.problems)

    def expect(self, key: str, value: str, what: str) -> None:
        found = self.plain(key, str)
        if found is not None and found != value:
            self.problem(key, f"is '{found}', but {what} is '{value}'", f"write '{value}'")

    def close(self) -> None:
        for key in self.value:
            if key not in self.taken:
                self.problem(str(key), "is not a known key", nearest(str(key), self.taken, noun="keys here"))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return WORDS.get(type(value), type(value).__name__) + ("" if isinstance(value, dict | list) else f" ({value!r})")
