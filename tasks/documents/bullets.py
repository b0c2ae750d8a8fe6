"""Résumé bullets from records: did what, measured by what, how; baseline → value, hardware, model, record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.documents import measured_model, stored
from tasks.documents.figures import heading, number
from tasks.documents.stored import Record

Highlight = Mapping[str, Any]

BULLET = {
    "en": "- {did}: {metric} {baseline} → {value}{unit} ({change}), measured with {how}{samples}, "
    "on {hardware}{stand_in}{model} [{record}]",
    "zh": "- {did}：{metric} {baseline} → {value}{unit}（{change}），测量方法：{how}{samples}，"
    "硬件：{hardware}{stand_in}{model} [{record}]",
}
BETTER = {"en": {"lower": "lower", "higher": "higher"}, "zh": {"lower": "降低", "higher": "提升"}}
FROM_NOTHING = {"en": "up from 0", "zh": "原为 0"}
SAMPLES = {"en": " (n={})", "zh": "（n={}）"}
STAND_IN = {"en": "; {} as a stand-in for {}", "zh": "；以 {} 替代 {}"}
MODEL = {"en": "; model: {}", "zh": "；模型：{}"}
HARDWARE = {"en": "{}, {} cores", "zh": "{}，{} 核"}
GPUS = {"en": "a machine with {} and {}", "zh": "{}，{}"}
SHORT = {
    "en": "Only {} of {} bullets: these have no passing record that shows the improvement: {}",
    "zh": "只有 {} 条（应为 {} 条）：以下实验没有能证明改进的通过记录：{}",
}


def bullets(highlights: Sequence[Highlight], records: Sequence[Record], count: int, lang: str = "en") -> list[str]:
    """The first `count` highlights that the records bear out, as text lines; fewer when the records hold fewer."""
    found = (bullet(highlight, records, lang) for highlight in highlights)
    return [line for line in found if line][:count]


def written(highlights: Sequence[Highlight], records: Sequence[Record], count: int, lang: str = "en") -> str:
    """The résumé file. When there are too few bullets it says which results are missing instead of making one up."""
    lines = bullets(highlights, records, count, lang)
    if len(lines) < count:
        missing = [str(each["experiment"]) for each in highlights if not bullet(each, records, lang)]
        names = dict.fromkeys(missing or ["no highlight is named in the plan"])
        lines.append(SHORT[lang].format(len(lines), count, ", ".join(names)))
    return "\n".join(lines) + "\n"


def bullet(highlight: Highlight, records: Sequence[Record], lang: str) -> str:
    """One bullet, or nothing when the record did not pass, a point is missing or nothing got better."""
    record = next((each for each in records if stored.name(each) == highlight["experiment"]), None)
    if record is None or record["status"] != "passed":
        return ""
    rows = [stored.row_of(record, highlight[point]) for point in ("baseline", "value")]
    metric = highlight["metric"]
    if any(row is None or metric not in row["metrics"] for row in rows):
        return ""
    before, after = (row["metrics"][metric] for row in rows if row)
    ratio = gain(before, after, highlight["better"])
    if ratio <= 1:
        return ""
    unit = unit_of(metric, lang)
    return BULLET[lang].format(
        did=stored.said(highlight["did"], lang),
        how=stored.said(highlight["how"], lang),
        metric=heading_name(metric, lang),
        baseline=number(before),
        value=number(after),
        unit=f" {unit}" if unit else "",
        change=f"{number(ratio)}× {BETTER[lang][highlight['better']]}" if math.isfinite(ratio) else FROM_NOTHING[lang],
        samples=samples(rows[1] or {}, metric, lang),
        hardware=hardware(record, lang),
        stand_in=STAND_IN[lang].format(record["backend"], record["stand_in_for"]) if stands_in(record) else "",
        model=MODEL[lang].format(said) if (said := measured_model.words(record, lang)) else "",
        record=stored.cited(record),
    )


def gain(before: float, after: float, better: str) -> float:
    """How many times better `after` is; infinite when there was nothing before; 0 when a ratio means nothing."""
    if before == 0 < after and better == "higher":
        return math.inf
    if before <= 0 or after <= 0:
        return 0.0
    return before / after if better == "lower" else after / before


def stands_in(record: Record) -> bool:
    return bool(record["tier"] == "stand-in")


def hardware(record: Record, lang: str) -> str:
    """The machine: its processor, and the GPUs that it has."""
    machine = record["machine"]
    text = HARDWARE[lang].format(machine["cpu"], machine["cores"])
    gpus = ", ".join(dict.fromkeys(stored.gpu_name(gpu) for gpu in machine.get("gpus", ())))
    return GPUS[lang].format(text, gpus) if gpus else text


def heading_name(metric: str, lang: str) -> str:
    """The metric's heading without its unit."""
    return heading(metric, lang).split(" (")[0]


def unit_of(metric: str, lang: str) -> str:
    """The metric's unit as its heading has it."""
    return heading(metric, lang).partition(" (")[2].removesuffix(")")


def samples(row: Mapping[str, Any], metric: str, lang: str) -> str:
    """How many samples are behind the value, where the record says so."""
    spread = row.get("spread", {}).get(metric)
    return SAMPLES[lang].format(number(spread["n"])) if spread else ""
