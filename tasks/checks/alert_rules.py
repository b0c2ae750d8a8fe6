"""Proves an `alerts.yaml`: accepted by promtool, and its GPU and latency alerts do what an alert has to do.

In simulated time each fires above its threshold, is silent at and below it, resolves afterwards and ignores a single
high sample; in real time it goes through a real Prometheus and Alertmanager and reaches a webhook.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.alerting import live, rules, signals, simulation
from tasks.alerting.rules import Alert
from tasks.alerting.signals import Signal
from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base


class Params(Base):
    gpu_pct: float = 90  # the alert fires above this utilization, not at it
    slow_ms: float = 8000  # any latency alert fires here
    quick_ms: float = 4  # and none here
    live: bool = True  # also in real time


@dataclass(frozen=True)
class Trial:
    """One alert, the signal that it watches, a level at which it fires and one at which it does not."""

    alert: Alert
    signal: Signal
    high: float
    low: float
    what: str


def needs(params: Params) -> Needs:
    return Needs("Prometheus", binaries=("promtool", "prometheus", "prometheus-alertmanager", "setpriv"))


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    try:
        found = rules.read(file)
    except UserError as error:
        return Verdict(False, str(error))
    tried = trials(found, params)
    problems = [
        *missing(tried),
        *(f"{file.name}:{line}: {what}" for line, what in shortcomings(file, tried, work.scratch)),
    ]
    if problems:
        return Verdict(False, "; ".join(problems))
    seen = [(one.alert, one.signal, one.high) for one in tried]
    took = live.delivered(file, seen, work.scratch) if params.live else {}
    arrived = {name: f"{seconds:.1f} s" for name, seconds in took.items()}
    said = ", ".join(f"{one.alert.name} ({one.what})" for one in tried)
    message = f"{len(found)} alerts valid; fire above, silent below, resolve after, ignore a spike: {said}"
    if took:
        message += f"; all reached the webhook within {max(took.values()):.1f} s"
    return Verdict(True, message, {"alerts": [one.name for one in found], "delivered_after": arrived})


def trials(found: Sequence[Alert], params: Params) -> list[Trial]:
    """Every alert that watches a GPU or a latency, with the signal for the series that it names."""
    made = []
    for alert in found:
        for name in alert.mentions(signals.GPU_NAMES)[:1]:
            made.append(Trial(alert, signals.gpu(name), params.gpu_pct + 1, params.gpu_pct, "GPU"))
        for name in alert.mentions(signals.LATENCY_NAMES)[:1]:
            made.append(Trial(alert, signals.latency(name), params.slow_ms, params.quick_ms, "latency"))
    return made


def missing(tried: Sequence[Trial]) -> Iterator[str]:
    series = {"GPU": signals.GPU_NAMES, "latency": signals.LATENCY_NAMES}
    for what, names in series.items():
        if all(one.what != what for one in tried):
            yield f"no alert watches a {what}: none of them names one of {', '.join(names)}"


def shortcomings(file: Path, tried: Sequence[Trial], scratch: Path) -> Iterator[tuple[int, str]]:
    """What an alert does wrong, with its line."""
    unit = {"GPU": "%", "latency": " ms"}
    for one in tried:
        name, line, high, low = one.alert.name, one.alert.line, one.high, one.low
        silent, above, after = simulation.fires(file, one.alert, one.signal, [low, high, low], scratch)
        if not above:
            yield line, f"{name} does not fire at {high:g}{unit[one.what]}"
        if silent:
            yield line, f"{name} fires at {low:g}{unit[one.what]}"
        if above and not silent and after:
            yield line, f"{name} does not resolve when the value is back at {low:g}{unit[one.what]}"
        if above and not silent and simulation.fires_on_a_spike(file, one.alert, one.signal, low, high, scratch):
            yield line, f"{name} fires on a single high sample: give it a for:"
