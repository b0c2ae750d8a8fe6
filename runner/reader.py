"""Takes typed values out of a plan's plain mapping and notes every mistake with its place. Light."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from runner.errors import HERE, Mistakes, Problem, nearest

if TYPE_CHECKING:
    from runner.yamlwalk import Lines

T = TypeVar("T")
LANGUAGES = {"en", "zh"}
WORDS = {str: "a text", list: "a list", dict: "a mapping", int: "a whole number", float: "a number", bool: "true/false"}


class Sources:
    """Where each key of a plan stands. Files are parsed for their lines only when there is something to report."""

    def __init__(
        self,
        root: Path,
        folders: Mapping[str, Path],
        overridden: frozenset[str] = frozenset(),
        week_file: Path = Path(),
    ) -> None:
        self.root, self.folders, self.overridden = root, folders, overridden
        self.week_file = week_file  # where the plan's own title stands
        self.lines: dict[Path, Lines] = {}

    def where(self, path: tuple[str, ...]) -> str:
        """`plans/week03/day18/day.yaml:31` for ('plan', 'days', 'day18', …), or 'command line' if it was set there."""
        if any(".".join(path[:n]) in self.overridden for n in range(1, len(path) + 1)):
            return HERE
        if path[0] != "plan":  # an ad hoc task
            return HERE
        if path[1:2] == ("title",):
            file, inner = self.week_file, path[1:]
        elif len(path) > 2 and path[2] in self.folders:
            file, inner = self.folders[path[2]] / "day.yaml", path[3:]
        else:  # the plan as a whole
            return HERE
        shown = str(file.relative_to(self.root))
        if file not in self.lines:
            from runner import yamlfile

            try:
                self.lines[file] = yamlfile.read(file, shown)[1]
            except Mistakes:
                self.lines[file] = {}
        known = self.lines[file]
        while inner and inner not in known:
            inner = inner[:-1]
        return f"{shown}:{known.get(inner, 1)}"


class Place(NamedTuple):
    """Where in the plan a mistake stands."""

    sources: Sources
    path: tuple[str, ...]
    problems: list[Problem]

    def problem(self, inner: Iterable[str], what: str, remedy: str = "") -> None:
        path = (*self.path, *inner)
        self.problems.append(Problem(self.sources.where(path), ".".join(path), what, remedy))

    def set_by_hand(self, *inner: str) -> bool:
        """Whether the command line set this key."""
        return self.sources.where((*self.path, *inner)) == HERE


class Reader:
    """One mapping of a plan. Each accessor takes a key; `close` reports the keys that nobody took."""

    def __init__(self, value: Any, path: tuple[str, ...], sources: Sources, problems: list[Problem]) -> None:
        self.path, self.sources, self.problems = path, sources, problems
        self.taken: set[str] = set()
        self.value: Mapping[str, Any] = value if isinstance(value, dict) else {}
        self.void = not isinstance(value, dict)  # said once; that its keys are missing follows from it
        if self.void:
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
            if required and not self.void:
                self.problem("", f"has no '{key}'", f"add '{key}: …' ({WORDS[kind]})")
            return None
        value = self.value[key]
        if isinstance(value, kind) and not (kind is not bool and isinstance(value, bool)):
            return value
        remedy = "quote it" if kind is str and isinstance(value, bool | int | float) else ""
        self.problem(key, f"must be {WORDS[kind]}, not {_shown(value)}", remedy)
        return None

    def number(self, key: str, *, default: float | None = None, above: float | None = None) -> float:
        self.taken.add(key)
        value = self.value.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            if key in self.value:
                self.problem(key, f"must be a number, not {_shown(value)}")
            elif not self.void:
                self.problem("", f"has no '{key}'", f"add '{key}: …' (a number)")
            return 1.0
        if not math.isfinite(value):
            self.problem(key, f"must be a number, not {value}")
        elif above is not None and not value > above:
            self.problem(key, f"must be more than {above:g}, not {value}")
        return value

    def text(self, key: str) -> dict[str, str]:
        """A text in both languages, `{en: …, zh: …}`."""
        self.taken.add(key)
        if key not in self.value:
            if not self.void:
                self.problem("", f"has no '{key}'", f"add '{key}: {{en: …, zh: …}}'")
            return {"en": "", "zh": ""}
        if _sound_text(value := self.value[key]):
            return dict(value)
        inner = Reader(self.value[key], (*self.path, key), self.sources, self.problems)
        both = inner.both()
        inner.close()
        return both

    def both(self) -> dict[str, str]:
        return {language: self.plain(language, str) or "" for language in ("en", "zh")}

    def texts(self, key: str, *, required: bool = True) -> tuple[dict[str, str], ...]:
        if (found := self.value.get(key)) and isinstance(found, list) and all(map(_sound_text, found)):
            self.taken.add(key)
            return tuple(found)
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
        inner = Reader({} if value is None else value, (*self.path, key), self.sources, self.problems)
        inner.void = value is None
        return inner

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


def _sound_text(value: Any) -> bool:
    """Whether there is nothing to say about a text: almost always, and there are thousands."""
    return isinstance(value, dict) and value.keys() == LANGUAGES and all(isinstance(v, str) for v in value.values())


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return WORDS.get(type(value), type(value).__name__) + ("" if isinstance(value, dict | list) else f" ({value!r})")
