"""How a stored number and a metric's name are written. Every document and every checker uses these two functions."""

from __future__ import annotations

import math

from tasks.documents.metric_words import METRIC_WORDS

UNITS = {
    "ms": "ms",
    "us": "µs",
    "s": "s",
    "mb": "MB",
    "gb": "GB",
    "kb": "kB",
    "bytes": "bytes",
    "pct": "%",
    "rps": "requests/s",
    "qps": "requests/s",
    "per_s": "per second",
    "samples_s": "samples/s",
    "tokens_s": "tokens/s",
    "gb_s": "GB/s",
    "flop_per_byte": "FLOP/byte",
    "gflops": "GFLOP/s",
    "mb_h": "MB/hour",
    "replica_s": "replica·s",
    "kib": "KiB",
    "mib": "MiB",
    "gib": "GiB",
    "mib_h": "MiB/hour",
    "tps": "tokens/s",
    "bool": "",
}


def number(value: float) -> str:
    """A stored value as every document prints it: integers in full, else four significant digits.

    `0.012345` → `0.01235`, `12.345` → `12.35`, `1234.5` → `1,234` (from 1000 on the whole digits are kept),
    below 0.0001 scientific. Stable: the same float always gives the same text.
    """
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    size = abs(value)
    if size.is_integer() and size < 1e15:
        return f"{sign}{int(size):,}"
    rounded = float(f"{size:.3e}") if size < 1000 else size
    if rounded >= 1000:
        return f"{sign}{rounded:,.0f}"
    if rounded < 1e-4:
        mantissa, exponent = f"{rounded:.3e}".split("e")
        return f"{sign}{mantissa}e{int(exponent)}"
    decimals = 3 - math.floor(math.log10(rounded))
    return f"{sign}{rounded:.{decimals}f}"


def split_unit(metric: str) -> tuple[str, str]:
    """`latency_p99_ms` → (`latency p99`, `ms`); a name without a known unit is all name.

    What follows `per` is no unit of the figure: `tokens_per_gib` counts tokens.
    """
    for suffix in sorted(UNITS, key=len, reverse=True):
        if metric.endswith("_" + suffix) and not metric.endswith("_per_" + suffix):
            return metric[: -len(suffix) - 1].replace("_", " "), UNITS[suffix]
    return metric.replace("_", " "), ""


def heading(metric: str, lang: str = "en") -> str:
    """The column heading of a metric, with its unit: `latency p99 (ms)`."""
    name, unit = split_unit(metric)
    if lang == "zh":
        name = METRIC_WORDS.get(name, name)
        unit = METRIC_WORDS.get(unit, unit)
    return f"{name} ({unit})" if unit else name


def cell(metric: str, value: float | None, lang: str = "en") -> str:
    """A metric's value in a table: empty when it was not measured, yes/no for a truth value."""
    if value is None:
        return ""
    if metric.endswith("_bool"):
        yes, no = ("是", "否") if lang == "zh" else ("yes", "no")
        return yes if value else no
    return number(value)
