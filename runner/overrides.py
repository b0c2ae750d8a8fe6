"""The command line's overrides, checked against the plan before Hydra sees them: one good answer to each mistake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner import groups, parsed, settings
from runner.errors import HERE, Mistakes, Problem, mistake, nearest
from runner.keys import in_group, in_plan, like
from runner.plan import load_sound, names

ALIASES = {"--wait": "wait=true", "--force": "force=true"}
OPTIONS = (
    "--multirun", "-m", "--cfg", "-c", "--resolve", "--package", "-p", "--info", "-i", "--hydra-help",
    "--shell-completion", "-sc",
)  # fmt: skip


def checked(root: Path, argv: list[str]) -> tuple[list[str], set[str]]:
    """The arguments for Hydra, and the plans that they choose. Raises Mistakes for what does not exist."""
    argv = [ALIASES.get(word, word) for word in argv]
    problems = [
        Problem(HERE, word, "is no option", nearest(word, (*OPTIONS, *ALIASES), noun="options"))
        for word in argv
        if word.startswith("-") and word.partition("=")[0] not in OPTIONS
    ]
    parsed = dict(_parsed(argv, problems))
    many = "-m" in argv or "--multirun" in argv
    problems += _twice(parsed.values())
    problems += [p for item in parsed.values() if not many for p in _sweeps(item)]
    given = Given(root, list(parsed.values()))
    unsound = groups.in_files(root, given.chosen)  # an override is compared with what its file says
    problems += unsound or [problem for item in parsed.values() for problem in given.problems(item)]
    if problems:
        raise Mistakes(problems)
    return [_for_hydra(word, parsed.get(word), bool(given.task)) for word in argv], given.plans


def _parsed(argv: Iterable[str], problems: list[Problem]) -> Iterable[tuple[str, Any]]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    for word in argv:
        if word.startswith("-") or not ("=" in word or word.startswith("~")):
            continue
        try:
            yield word, OverridesParser.create().parse_override(word)
        except HydraException as error:
            problems.append(Problem(HERE, word, f"cannot be read: {str(error).splitlines()[0]}", "KEY=VALUE"))


def _twice(items: Iterable[Any]) -> list[Problem]:
    counts = Counter(str(item.key_or_group) for item in items)
    return [Problem(HERE, key, "is given twice", "keep one") for key, count in counts.items() if count > 1]


def _sweeps(item: Any) -> list[Problem]:
    if not item.is_sweep_override():
        return []
    return [Problem(HERE, str(item.key_or_group), "names several values", "run -m … runs each; [a,b] is a list")]


def _for_hydra(word: str, item: Any, task: bool) -> str:
    """A plan's or task's key may be one that is not written yet: Hydra calls that adding."""
    if item is None or item.is_delete() or item.is_add() or item.is_force_add():
        return word
    key = str(item.key_or_group)
    return f"++{word}" if key.startswith("plan.") or (task and key.startswith("params.")) else word


def keys(given: Iterable[str]) -> frozenset[str]:
    """The full keys of the plan that were set; choosing a group (`plan=week03`) sets none."""
    return frozenset(key for word in given if "." in (key := word.partition("=")[0].lstrip("+~")))


def plain_values(raw: Any, path: tuple[str, ...] = ("plan",)) -> None:
    """Refuse resolvers and `_target_` that came in by an override."""
    children = raw.items() if isinstance(raw, Mapping) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in children:
        here = (*path, str(key))
        if key == "_target_":
            raise mistake("a plan names kinds, it never names code", where=HERE, key=".".join(here))
        plain_values(value, here)
    if isinstance(raw, str) and "${" in raw:
        raise mistake("a plan holds plain values; '${…}' would be resolved", where=HERE, key=".".join(path))


def _values(item: Any) -> list[Any]:
    value = item.value()
    found = list(item.sweep_iterator()) if item.is_sweep_override() else [value]
    return [getattr(one, "text", one) for one in found]  # a quoted text of a sweep comes with its quotes


class Given:
    """All the overrides of a command line: what one may name depends on what others choose."""

    def __init__(self, root: Path, items: list[Any]) -> None:
        self.root = root
        self.values = {str(item.key_or_group): _values(item) for item in items if not item.is_delete()}
        self.known = names(root)
        self.plans = {str(value) for value in self.values.get("plan", ())}
        self.task = next(map(str, self.values.get("task", ())), "")
        defaults = settings.default_names(root)
        self.chosen = [
            (group, name)
            for group in settings.GROUPS
            for name in map(str, self.values.get(group, (defaults[group],)))
            if name in settings.choices(root, group)  # any other is reported with its override
        ]

    def problems(self, item: Any) -> list[Problem]:
        """What is wrong with one override."""
        key = str(item.key_or_group)
        top, *inner = key.split(".")
        if top == "hydra" or key.startswith("hydra/"):
            return []  # Hydra's own; it says what is wrong
        values = [None] if item.is_delete() else self.values[key]
        if top == "plan" and inner:
            if item.is_add() or item.is_force_add():
                return [Problem(HERE, key, "a plan takes no new keys", "write plan.….key=value for a key that it has")]
            return [p for value in values for p in self._in_plan(inner, value, key, item.is_delete())]
        return [p for value in values for p in self._of_value(top, inner, value, key)]

    def _of_value(self, top: str, inner: list[str], value: Any, key: str) -> list[Problem]:
        if top == "plan" or (top in settings.GROUPS and not inner):
            known = self.known if top == "plan" else settings.choices(self.root, top)
            remedy = nearest(str(value), known, noun=f"{top}s")
            return [] if value in known else [Problem(HERE, top, f"no {top} '{value}'", remedy)]
        if top in settings.GROUPS:
            files = [settings.choice(self.root, top, name) for group, name in self.chosen if group == top]
            return [p for file in files for p in in_group(inner, file, value, key)]
        if top == "params" and inner and self.task:
            return _param(self.task, inner, key)
        config = parsed.cached(self.root / "conf" / "config.yaml", self.root)
        fields = [name for name in config if name not in ("defaults", "hydra")]
        if top not in fields or inner:
            known = [*fields, *settings.GROUPS, "plan"]
            return [Problem(HERE, key, "is not a known key", nearest(top, known, noun="keys"))]
        if key == "lang" and value not in ("en", "zh"):
            return [Problem(HERE, key, f"no language '{value}'", "en or zh")]
        return like(value, config[top], key)

    def _in_plan(self, inner: list[str], value: Any, key: str, delete: bool) -> list[Problem]:
        kind = str(next(iter(self.values.get(".".join(["plan", *inner[:4], "kind"]), [""]))))
        found = []
        for name in sorted(self.plans & {*self.known}):
            raw, unread = load_sound(self.root, name)
            if not unread:  # what cannot be read is reported when the plan is loaded
                found += in_plan(inner, raw, {} if delete else value, key, kind)
        return found


def _param(task: str, inner: list[str], key: str) -> list[Problem]:
    from tasks.catalog import KINDS

    if task not in KINDS:
        return []
    known = {**KINDS[task].Params.model_fields, **KINDS[task].Point.model_fields}
    if inner[0] in known:
        return []
    return [Problem(HERE, key, "is no parameter or axis of this kind", nearest(inner[0], known, noun="it has"))]
