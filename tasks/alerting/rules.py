"""An alert-rule file as Prometheus reads it, and which of its alerts watch a GPU or a latency."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError

UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
DURATION = re.compile(r"(\d+)(ms|[smhdwy])")
RANGE = re.compile(r"\[([0-9a-z]+)")
EQUAL = re.compile(r"([a-zA-Z_]\w*)\s*=\s*\"([^\"]*)\"")
LABELS = {
    "job": "model", "instance": "127.0.0.1:9400", "gpu": "0", "gpu_uuid": "GPU-0", "Hostname": "node",
    "model": "network", "version": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Alert:
    """One alerting rule. `hold_s`: how long its condition must last until it fires. `line`: of its name in the file."""

    name: str
    expression: str
    hold_s: float
    keep_s: float
    line: int

    @property
    def window_s(self) -> float:
        """The longest range that the expression looks back over."""
        return max((seconds(found) for found in RANGE.findall(self.expression)), default=0.0)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of a series that this rule's matchers let through (equality only)."""
        return {**LABELS, **dict(EQUAL.findall(self.expression))}

    def mentions(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if re.search(rf"\b{name}\b", self.expression)]


def read(file: Path) -> list[Alert]:
    """The alerts of a file that promtool accepts. Raises UserError with promtool's own message otherwise."""
    if not file.is_file() or not file.read_bytes().strip():
        raise UserError("there is no such file, or nothing in it", where=file.name)
    argv = ["promtool", "check", "rules", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=30)
    if done.returncode:
        raise UserError("promtool check rules: " + " ".join((done.stderr or done.stdout).split()), where=file.name)
    text = file.read_text(encoding="utf-8")
    return [alert(rule, text) for rule in alerting(document(text))]


def document(text: str) -> Mapping[str, Any]:
    import yaml

    return dict(yaml.safe_load(text))


def alerting(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in content.get("groups") or [] for rule in group.get("rules") or [] if "alert" in rule]


def alert(rule: Mapping[str, Any], text: str) -> Alert:
    named = re.search(rf"alert:\s*[\"']?{re.escape(str(rule['alert']))}\b", text)
    line = text.count("\n", 0, named.start()) + 1 if named else 1
    hold, keep = (seconds(str(rule.get(key, "0s"))) for key in ("for", "keep_firing_for"))
    return Alert(str(rule["alert"]), str(rule["expr"]), hold, keep, line)


def seconds(duration: str) -> float:
    """A Prometheus duration (`1h30m`) in seconds."""
    return sum(int(number) * UNITS_S[unit] for number, unit in DURATION.findall(duration))
