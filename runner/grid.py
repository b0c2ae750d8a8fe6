"""`run status` as a person sees it: a grid of days, one summary line, the next command. Light: no rich."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from runner.status import command, following

MARKS = {"passed": "●", "failed": "✗", "blocked": "▲", "stale": "◌", "pending": "·", "running": "▶"}
FILE_MARKS = {"ok": "●", "failed": "✗", "blocked": "▲", "stale": "◌", "pending": "·"}
COLOURS = {"●": 32, "◐": 36, "✗": 31, "▲": 33, "◌": 35, "▶": 34}
TITLE = 48  # columns of a title at the most
WORDS = {
    "en": {"days": "day {}/{}", "part": "part {}/{}", "experiments": "experiments", "files": "deliverables",
           "own": "checklist", "next": "next", "nothing": "nothing to do", "stand": "stand-in", "ok": "ok"},
    "zh": {"days": "第 {}/{} 天", "part": "第 {}/{} 部分", "experiments": "实验", "files": "交付物",
           "own": "清单", "next": "下一步", "nothing": "没有要做的了", "stand": "替代", "ok": "合格"},
}  # fmt: skip
STATES = {
    "en": {s: s for s in ("passed", "failed", "blocked", "stale", "running", "pending")},
    "zh": {
        "passed": "通过",
        "failed": "失败",
        "blocked": "受阻",
        "stale": "过期",
        "running": "运行中",
        "pending": "待做",
    },
}


def lines(status: Mapping[str, Any], *, lang: str = "en", colour: bool = False) -> Iterator[str]:
    """One line a day, then the legend, the totals and the next command."""
    word = WORDS[lang]
    wide = min(max((_width(day["title"][lang]) for day in status["days"]), default=0), TITLE)
    name = max((len(day["id"]) for day in status["days"]), default=0)
    most = max((len(day["experiments"]) for day in status["days"]), default=0)
    widest = max((len(day["deliverables"]) for day in status["days"]), default=0)
    for day in status["days"]:
        marks = "".join(_paint(_mark(e), colour) for e in day["experiments"]) + " " * (most - len(day["experiments"]))
        files = "".join(_paint(FILE_MARKS[d["status"]], colour) for d in day["deliverables"])
        files += " " * (widest - len(day["deliverables"]))
        title = _fit(day["title"][lang], wide)
        shown = [f"  {day['id']:<{name}} {title}", f"{word['experiments']} {marks}", f"{word['files']} {files}"]
        if day["checklist"]:
            ticked = sum(item["done"] for item in day["checklist"])
            shown.append(f"{word['own']} {ticked}/{len(day['checklist'])}")
        yield "  ".join(shown).rstrip()
    legend = [(MARKS[state], label) for state, label in STATES[lang].items()]
    legend.insert(1, ("◐", word["stand"]))
    yield "  " + "  ".join(f"{_paint(mark, colour)} {label}" for mark, label in legend)
    yield from _end(status, lang)


def _end(status: Mapping[str, Any], lang: str) -> Iterator[str]:
    """The totals and the next command."""
    yield summary(status, lang)
    if onward := command(status):
        yield onward.partition(" experiment=")[0]  # the whole day
    else:
        yield f"run doctor {status['plan']}" if status["totals"]["blocked"] else WORDS[lang]["nothing"]


def summary(status: Mapping[str, Any], lang: str = "en") -> str:
    """`day 18/21 · 30 passed · 1 failed · 3 blocked · next: …`; of a plan with units of its own `part 3/10 · …`."""
    totals, word, coming = status["totals"], WORDS[lang], following(status)
    ids = [day["id"] for day in status["days"]]
    here = coming[0] if coming else ids[-1]
    at, last = here.removeprefix("day"), ids[-1].removeprefix("day")
    numbered = at.isdigit() and last.isdigit()
    counts = [f"{totals[s]} {STATES[lang][s]}" for s in STATES[lang] if totals[s] or s == "passed"]
    parts = [
        word["days"].format(at, last) if numbered else word["part"].format(ids.index(here) + 1, len(ids)),
        *counts,
        f"{totals['deliverables_ok']}/{totals['deliverables']} {word['files']}",
    ]
    return " · ".join([*parts, f"{word['next']}: {coming[1]}"] if coming else parts)


def details(status: Mapping[str, Any], lang: str = "en", colour: bool = False) -> Iterator[str]:
    """Every experiment and deliverable of the days, with the reasons, then the totals and the next command."""
    states = {**STATES[lang], "ok": WORDS[lang]["ok"]}
    for day in status["days"]:
        yield f"{day['id']} {day['title'][lang]}"
        for e in day["experiments"]:
            tier = f" {WORDS[lang]['stand']} ({e['backend']})" if e["tier"] == "stand-in" else f" {e['backend']}"
            yield f"  {_paint(_mark(e), colour)} {e['id']:<36} {STATES[lang][e['status']]}{tier if e['tier'] else ''}"
            yield from (f"      {text}" for text in (e["reason"], e["remedy"]) if text)
        for d in day["deliverables"]:
            yield f"  {_paint(FILE_MARKS[d['status']], colour)} {d['path']:<36} {states[d['status']]}"
            yield from (f"      {text}" for text in (d["reason"], d["remedy"]) if text)
            yield from (f"      {c['check']}: {c['message']}" for c in d["checks"] if not c["ok"])
    yield from _end(status, lang)


def _mark(experiment: Mapping[str, Any]) -> str:
    stand_in = experiment["status"] == "passed" and experiment["tier"] == "stand-in"
    return "◐" if stand_in else MARKS[experiment["status"]]


def _paint(mark: str, colour: bool) -> str:
    return f"\033[{COLOURS[mark]}m{mark}\033[0m" if colour and mark in COLOURS else mark


def _width(text: str) -> int:
    """Columns in a terminal: Chinese characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _fit(text: str, wide: int) -> str:
    while _width(text) > wide:
        text = text[:-2] + "…"
    return text + " " * (wide - _width(text))
