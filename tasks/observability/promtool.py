"""`promtool`: its verdict on configurations, rules and metrics, with file and line; history written as TSDB blocks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tasks.api import UserError

RULE = re.compile(r"^(?P<file>[^\s:]+): (?P<line>\d+):\d+: (?P<what>.*)", re.S)  # rules.yaml: 5:15: group …
SYNTAX = re.compile(r"^(?:yaml: )?(?:unmarshal errors: )?line (?P<line>\d+): (?P<what>.*)", re.S)
PARSING = re.compile(r"^parsing YAML file (?P<file>[^:]+): (?P<what>.*)", re.S)
NO_KUBERNETES = "Debian builds Prometheus without Kubernetes discovery: file_sd_configs, or the build of prometheus.io"


def check_config(file: Path) -> None:
    """UserError in promtool's words for a configuration that Prometheus would refuse, or one of its rule files."""
    if not file.is_file() or not file.read_bytes().strip():
        raise UserError("is missing or empty", where=file.name)
    refuse(run("check", "config", file.name, cwd=file.parent), file)


def check_rules(file: Path) -> None:
    if not file.is_file():
        raise UserError("is missing", where=file.name)
    refuse(run("check", "rules", file.name, cwd=file.parent), file)


def check_metrics(page: str) -> list[str]:
    """What promtool's linter has against a /metrics page; empty for a good one."""
    done = run("check", "metrics", given=page)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] if done.returncode else []


def backfill(openmetrics: Path, data: Path) -> None:
    """Write the samples of an OpenMetrics file as blocks of a TSDB that no Prometheus has open."""
    done = run("tsdb", "create-blocks-from", "openmetrics", "--quiet", str(openmetrics), str(data))
    refuse(done, openmetrics)


def backfill_rules(rules: Path, address: str, start: float, end: float, interval_s: int, data: Path) -> None:
    """Evaluate recording rules over the history of a running Prometheus and write the result as blocks in `data`."""
    done = run(
        "tsdb", "create-blocks-from", "rules", f"--start={int(start)}", f"--end={int(end)}",
        f"--eval-interval={interval_s}s", f"--url=http://{address}", f"--output-dir={data}", str(rules),
    )  # fmt: skip
    refuse(done, rules)


def run(*words: str, cwd: Path | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], cwd=cwd, input=given, capture_output=True, text=True, check=False)


def refuse(done: subprocess.CompletedProcess[str], file: Path) -> None:
    if done.returncode:
        raise located((done.stderr.strip() or done.stdout.strip()), file)


def located(message: str, file: Path) -> UserError:
    """promtool's message with the file and the line that it names moved to the front."""
    what = re.sub(r"\s+", " ", message.replace("FAILED:", "")).strip()
    where = file.name
    for pattern in (PARSING, RULE, SYNTAX):
        if found := pattern.match(what):
            parts = found.groupdict()
            line = f":{parts['line']}" if "line" in parts else ""
            where, what = f"{Path(parts.get('file') or where).name}{line}", parts["what"]
    return UserError(what, where=where, remedy=NO_KUBERNETES if "field kubernetes_sd_configs not found" in what else "")
