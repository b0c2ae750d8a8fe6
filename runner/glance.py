"""The verbs that answer at once: `status`, `next`, `done`. Light: they read files and print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner import grid, settings, status, store
from runner.build import build
from runner.errors import HERE, Mistakes, mistake, nearest
from runner.plan import Plan, load

USAGE = {
    "status": "usage: run status [PLAN] [--json] [--lang en|zh]\n\nWhere you stand: a grid of days; one day in full.",
    "next": "usage: run next [PLAN] [--json] [--lang en|zh]\n\nThe next experiment and the command that runs it.",
    "done": "usage: run done DAY [ITEM …] [--undo] [--lang en|zh]\n\n"
    "Tick items of your own checklist; without ITEM: show it.",
}


def options(
    verb: str, argv: list[str], flags: tuple[str, ...], valued: tuple[str, ...], most: int | None = 1
) -> tuple[list[str], dict[str, Any]]:
    """Words (`most` of them; None: any number) and options of a verb. Raises Mistakes for what it does not take."""
    words: list[str] = []
    found: dict[str, Any] = {}
    rest = iter(argv)
    for arg in rest:
        name, _, value = arg.partition("=")
        if name in valued:
            found[name[2:]] = value or next(rest, "")
        elif arg in flags:
            found[arg[2:]] = True
        elif arg.startswith("-"):
            remedy = nearest(arg, (*flags, *valued), noun="options")
            raise mistake(f"'{arg}' is no option of '{verb}'", where=HERE, remedy=remedy)
        else:
            words.append(arg.removeprefix("plan="))
    for word in words[most:] if most is not None else ():
        remedy = USAGE[verb].partition("\n")[0] if verb in USAGE else f"run {verb} --help"
        raise mistake(f"'{word}' is one word too many", where=HERE, remedy=remedy)
    if found.get("lang", "en") not in ("en", "zh"):
        raise mistake(f"no language '{found['lang']}'", where=HERE, key="--lang", remedy="en or zh")
    return words, found


def helped(verb: str, argv: list[str]) -> bool:
    if {"-h", "--help"} & set(argv):
        print(USAGE[verb])
        return True
    return False


def show_status(root: Path, argv: list[str]) -> int:
    if helped("status", argv):
        return 0
    words, given = options("status", argv, ("--json",), ("--lang",))
    found = of(root, words[0] if words else "all")
    if given.get("json"):
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return 0
    lang, colour = given.get("lang", "en"), sys.stdout.isatty()
    show = grid.details if len(found["days"]) == 1 else grid.lines
    for line in show(found, lang=lang, colour=colour):
        print(line)
    return 0


def show_next(root: Path, argv: list[str]) -> int:
    if helped("next", argv):
        return 0
    words, given = options("next", argv, ("--json",), ("--lang",))
    found = of(root, words[0] if words else "all")
    coming, command = status.following(found), status.command(found)
    if given.get("json"):
        print(json.dumps({"day": coming and coming[0], "experiment": coming and coming[1], "command": command}))
        return 0
    print(grid.summary(found, given.get("lang", "en")))
    print(command or grid.WORDS[given.get("lang", "en")]["nothing"])
    return 0


def tick(root: Path, argv: list[str]) -> int:
    """Tick (or with --undo untick) items of a day's checklist, and show it with its questions."""
    if helped("done", argv):
        return 0
    words, given = options("done", argv, ("--undo",), ("--lang",), most=None)
    if not words:
        raise mistake("which day?", where=HERE, remedy="run done day18 leetcode")
    day, *others = read(root, words[0]).days
    if others:
        remedy = f"run done {day.id}, or another day of it"
        raise mistake(f"{words[0]} has no checklist of its own, its days have", where=HERE, remedy=remedy)
    if not day.checklist:
        raise mistake(f"{day.id} has no checklist", where=HERE, remedy="the curriculum's days have one: day18")
    file = store.ticks_file(root, day.week, day.id)
    ticked = set(store.read_json(file) or [])
    for item in words[1:]:
        if item not in day.checklist:
            remedy = nearest(item, day.checklist, noun="items")
            raise mistake(f"{day.id} has no checklist item '{item}'", where=HERE, remedy=remedy)
        ticked = ticked - {item} if given.get("undo") else ticked | {item}
    if words[1:]:
        store.write_json(file, sorted(ticked))
    lang = given.get("lang", "en")
    texts = [text[lang] for text in (day.leetcode, *day.questions) if text]
    for item, text in zip(day.checklist, texts, strict=True):
        print(f"  [{'x' if item in ticked else ' '}] {item:<11} {text}")
    return 0


def nothing_to_do(root: Path, argv: list[str]) -> bool:
    """Whether `run plan=NAME` finds everything done; says so without loading anything that works."""
    if len(argv) != 1 or not argv[0].startswith("plan=") or "," in argv[0]:
        return False
    try:
        plan = read(root, argv[0].removeprefix("plan="))
        found = status.of_plan(plan, root, settings.defaults(root))
    except Mistakes:
        return False  # the working side finds those of kinds and checks too, and reports them together
    if not status.complete(found) or not all_sent(plan, root):
        return False
    print(grid.summary(found))
    print("nothing to do: everything is measured and proved (force=true measures again)")
    return True


def all_sent(plan: Plan, root: Path) -> bool:
    """Whether MLflow has heard of every record since it was written; `runner.tracking` looks closer."""
    folders = (store.experiment_dir(root, e.week, e.day, e.id) for day in plan.days for e in day.experiments)
    return all(store.newer(folder / "tracked.json", folder / "record.json") for folder in folders)


def read(root: Path, name: str) -> Plan:
    return build(load(root, name), root)


def of(root: Path, name: str) -> dict[str, Any]:
    return status.of_plan(read(root, name), root, settings.defaults(root))


VERBS: dict[str, Callable[[Path, list[str]], int]] = {"status": show_status, "next": show_next, "done": tick}
