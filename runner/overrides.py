"""The command line's overrides, checked against the plan before Hydra sees them: one good answer to each mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner import settings, spec, yamlfile
from runner.errors import Mistakes, Problem, mistake, nearest
from runner.plan import Day, Experiment, Plan, load, names

HERE = "command line"
TEXT = {"en": "ad hoc", "zh": "临时"}


def checked(root: Path, argv: list[str]) -> tuple[list[str], set[str]]:
    """The arguments for Hydra, and the plans that they choose. Raises Mistakes for what does not exist."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    words = [word for word in argv if "=" in word and not word.startswith("-")]
    problems: list[Problem] = []
    parsed = []
    for word in words:
        try:
            parsed.append(OverridesParser.create().parse_override(word))
        except OverrideParseException as error:
            problems.append(Problem(HERE, word, f"cannot be read: {str(error).splitlines()[0]}", "KEY=VALUE"))
    chosen = {str(v) for item in parsed if item.key_or_group == "plan" for v in _values(item)}
    task = next((str(item.value()) for item in parsed if item.key_or_group == "task"), "")
    for item in parsed:
        problems += _of_one(item, root, chosen, task)
    if problems:
        raise Mistakes(problems)
    return [f"+{word}" if task and word.startswith("params.") else word for word in argv], chosen


def keys(given: Iterable[str]) -> frozenset[str]:
    """The full keys that were set."""
    return frozenset(word.partition("=")[0].lstrip("+~") for word in given)


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
    if item.is_sweep_override():
        return list(item.sweep_iterator())
    return value if isinstance(value, list) else [value]


def _of_one(item: Any, root: Path, chosen: set[str], task: str) -> list[Problem]:
    """What is wrong with one override."""
    key = str(item.key_or_group)
    top, *inner = key.split(".")
    config = yamlfile.cached(root / "conf" / "config.yaml", root)
    if top == "hydra" or key.startswith("hydra/"):
        return []
    if (item.is_add() or item.is_force_add()) and top == "plan":
        return [Problem(HERE, key, "a plan takes no new keys", "write plan.….key=value for a key that it has")]
    if top == "plan" and not inner:
        known = names(root)
        return [Problem(HERE, "plan", f"no plan '{value}'", nearest(str(value), known, noun="plans"))
                for value in map(str, _values(item)) if value not in known]  # fmt: skip
    if top == "plan":
        return [p for name in sorted(chosen) if name in names(root) for p in _path(inner, load(root, name), key)]
    if top in settings.GROUPS and not inner:
        known = settings.choices(root, top)
        return [Problem(HERE, top, f"no {top} '{value}'", nearest(str(value), known, noun=f"{top}s"))
                for value in map(str, _values(item)) if value not in known]  # fmt: skip
    if top in settings.GROUPS:
        return _path(inner, settings.defaults(root)[top], key)
    if top == "params" and task:
        return _param(task, inner, key)
    fields = [name for name in config if name not in ("defaults", "hydra")]
    if top not in fields or (inner and top != "params"):
        return [
            Problem(HERE, key, "is not a known key", nearest(top, [*fields, *settings.GROUPS, "plan"], noun="keys"))
        ]
    return _typed(top, item, config[top])


def _typed(key: str, item: Any, default: Any) -> list[Problem]:
    wanted = {bool: "true or false", int: "a whole number"}.get(type(default))
    if key == "lang":
        bad = [value for value in map(str, _values(item)) if value not in ("en", "zh")]
        return [Problem(HERE, key, f"no language '{value}'", "en or zh") for value in bad]
    bad = [value for value in _values(item) if wanted and type(value) is not type(default)]
    return [Problem(HERE, key, f"must be {wanted}, not {value!r}") for value in bad]


def _path(inner: list[str], raw: Any, key: str) -> list[Problem]:
    """Follow a dotted key through the plan; say where it leaves it."""
    done: list[str] = [key.split(".")[0]]
    for step in inner:
        if not isinstance(raw, Mapping):
            return [Problem(HERE, key, f"{'.'.join(done)} has no keys inside", "override it as a whole")]
        if step not in raw:
            at = ".".join(done)
            return [Problem(HERE, key, f"{at} has no '{step}'", nearest(step, raw, noun="keys there"))]
        raw, done = raw[step], [*done, step]
    return []


def _param(task: str, inner: list[str], key: str) -> list[Problem]:
    from tasks.catalog import KINDS

    if task not in KINDS:
        return []
    known = {**KINDS[task].Params.model_fields, **KINDS[task].Point.model_fields}
    if inner and inner[0] in known:
        return []
    return [Problem(HERE, key, "is no parameter or axis of this kind", nearest(inner[0], known, noun="it has"))]


def adhoc(composed: Mapping[str, Any], root: Path) -> tuple[Plan, Plan]:
    """`task=KIND params.…` as a plan of one experiment: what the kind's Point names becomes the matrix."""
    from tasks.catalog import KINDS

    name = str(composed["task"])
    if name not in KINDS:
        raise mistake(f"no kind '{name}'", where=HERE, key="task", remedy=nearest(name, KINDS, noun="kinds"))
    plain_values(composed["params"], ("params",))
    axes = KINDS[name].Point.model_fields
    matrix = {k: v if isinstance(v, list) else [v] for k, v in composed["params"].items() if k in axes}
    params = {k: v for k, v in composed["params"].items() if k not in axes}
    experiment = Experiment(
        id=f"{name}-{spec.digest([params, matrix])[:8]}", day=name, week="adhoc", kind=name, title=TEXT,
        params=params, matrix=matrix, metrics=(), uses=(), after=(), reads=(), claims=(), timeout_s=3600, minutes=1,
    )  # fmt: skip
    folder = root / "artifacts" / "adhoc" / name
    day = Day(name, "adhoc", TEXT, (), (), (), (experiment,), (), TEXT, (), (), folder)
    plan = Plan(f"task {name}", TEXT, (day,))
    return plan, plan
