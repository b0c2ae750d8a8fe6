"""`promtool test rules`: an alert in simulated time, its signal high for a while, low, high again for a moment."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.alerting.rules import Alert
from tasks.alerting.signals import Series, Signal

STEP_S = 15
CALM = 8  # steps before and after, beyond what the rule itself waits


def fires(file: Path, alert: Alert, signal: Signal, levels: Sequence[float], scratch: Path) -> list[bool]:
    """Whether the alert has fired at the end of each level, every level lasting longer than the rule waits."""
    steps = lasting(alert)
    played = [level for level in levels for _ in range(steps)]
    ends = [steps * (number + 1) - 1 for number in range(len(levels))]
    return [asked(file, alert, played, signal, end, firing(alert), scratch) for end in ends]


def fires_on_a_spike(file: Path, alert: Alert, signal: Signal, low: float, high: float, scratch: Path) -> bool:
    """Whether one high sample among low ones makes it fire at any time."""
    steps = lasting(alert)
    played = [low] * steps + [high] + [low] * steps
    ever = f"max_over_time(({firing(alert)})[{len(played) * STEP_S}s:{STEP_S}s])"
    return asked(file, alert, played, signal, len(played) - 1, ever, scratch)


def lasting(alert: Alert) -> int:
    return math.ceil((alert.hold_s + alert.keep_s + alert.window_s) / STEP_S) + CALM


def firing(alert: Alert) -> str:
    """PromQL that is 1 while the alert fires and 0 while it does not."""
    return f'(count(ALERTS{{alertname="{alert.name}",alertstate="firing"}}) > bool 0) or vector(0)'


def asked(
    file: Path, alert: Alert, played: Sequence[float], signal: Signal, step: int, expression: str, scratch: Path
) -> bool:
    """Whether promtool finds `expression` to be 1 at that step."""
    expected = {"expr": expression, "eval_time": f"{step * STEP_S}s", "exp_samples": [{"labels": "{}", "value": 1}]}
    test = {
        "rule_files": [str(file)],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [{
            "interval": f"{STEP_S}s", "input_series": inputs(alert, played, signal), "promql_expr_test": [expected],
        }],
    }  # fmt: skip
    written = scratch / "alert-test.yaml"
    written.write_text(json.dumps(test), encoding="utf-8")
    argv = ["promtool", "test", "rules", str(written)]
    return subprocess.run(argv, capture_output=True, check=False, timeout=60).returncode == 0


def inputs(alert: Alert, played: Sequence[float], signal: Signal) -> list[dict[str, str]]:
    """promtool's input series: gauges take each step's level, counters add it up."""
    steps = [{named(alert, one): one for one in signal(level)} for level in played]
    return [{"series": name, "values": values(name, steps)} for name in steps[0]]


def values(name: str, steps: Sequence[Mapping[str, Series]]) -> str:
    total, shown = 0.0, []
    for step in steps:
        one = step[name]
        total = total + one.level if one.counter else one.level
        shown.append(f"{total:g}" if total < 1e6 else f"{total:.0f}")
    return " ".join(shown)


def named(alert: Alert, one: Series) -> str:
    labels: dict[str, Any] = {**alert.labels, **one.labels}
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{one.name}{{{shown}}}"
