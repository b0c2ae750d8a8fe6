"""A dotted key of the command line, followed through the plan or a settings group: does it name something?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.errors import HERE, Problem, nearest

OPTIONAL = {
    "day": ("notes",),
    "experiment": ("params", "matrix", "uses", "after", "reads", "claims", "timeout_s", "minutes"),
}
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


def in_plan(inner: list[str], raw: Mapping[str, Any], value: Any, key: str, kind: str = "") -> list[Problem]:
    """What is wrong with `plan.<inner>=value`. Keys that the file leaves out are taken when the schema has them.

    `kind` is the experiment's kind if the command line changes it too.
    """
    if inner[0] != "days":
        what = f"plan.{inner[0]} cannot be changed" if inner[0] in raw else f"plan has no '{inner[0]}'"
        return [Problem(HERE, key, what, "plan.days.DAY.… can be changed; plan=NAME chooses a plan")]
    node: Any = raw
    for depth, step in enumerate(inner):
        at = ".".join(["plan", *inner[:depth]])
        if not isinstance(node, Mapping):
            return [Problem(HERE, key, f"{at} has no keys inside", "override it as a whole")]
        if step not in node:
            known = _known(inner[:depth], node, raw, kind)
            return (
                []
                if step in known
                else [Problem(HERE, key, f"{at} has no '{step}'", nearest(step, known, noun="keys there"))]
            )
        node = node[step]
    if isinstance(node, Mapping) and not isinstance(value, Mapping):
        return [Problem(HERE, key, f"must be a mapping, not {value!r}", "write {key: value}, or a longer key")]
    return []


def _known(path: list[str], node: Mapping[str, Any], raw: Mapping[str, Any], kind: str) -> Iterable[str]:
    """The keys that may stand at a path, written or not."""
    from tasks.catalog import KINDS

    match path:
        case ["days", _]:
            return {*node, *OPTIONAL["day"]}
        case ["days", _, "experiments", _]:
            return {*node, *OPTIONAL["experiment"]}
        case ["days", day, "experiments", name, ("params" | "matrix") as part]:
            kind = kind or str(raw["days"][day]["experiments"][name].get("kind"))
            if kind in KINDS:
                return (KINDS[kind].Params if part == "params" else KINDS[kind].Point).model_fields
    return node


def in_group(inner: list[str], raw: Mapping[str, Any], value: Any, key: str) -> list[Problem]:
    """What is wrong with `model.<inner>=value`: a settings group takes the keys and types that its file has."""
    node: Any = raw
    done = [key.split(".")[0]]
    for step in inner:
        if not isinstance(node, Mapping):
            return [Problem(HERE, key, f"{'.'.join(done)} has no keys inside", "override it as a whole")]
        if step not in node:
            remedy = nearest(step, node, noun="keys there")
            return [Problem(HERE, key, f"{'.'.join(done)} has no '{step}'", remedy)]
        node, done = node[step], [*done, step]
    return like(value, node, key)


def like(value: Any, pattern: Any, key: str) -> list[Problem]:
    """What is wrong with a value that must have the pattern's type; nothing is known of a pattern that is null."""
    if isinstance(pattern, Mapping) and isinstance(value, Mapping):
        known = {name: like(inner, pattern[name], f"{key}.{name}") for name, inner in value.items() if name in pattern}
        lost = [name for name in value if name not in pattern]
        unknown = [Problem(HERE, f"{key}.{name}", "is not a known key", nearest(name, pattern)) for name in lost]
        return [*unknown, *(problem for found in known.values() for problem in found)]
    fits = type(value) is type(pattern) or (isinstance(pattern, float) and type(value) is int)
    if pattern is None or fits:
        return []
    return [Problem(HERE, key, f"must be {WORDS.get(type(pattern), 'of another type')}, not {value!r}")]
