"""A learner's prometheus.yaml made to run here: the same jobs, relabelling and rules, on the servers of this run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.observability import promtool

DISCOVERY = ("file_sd_configs", "http_sd_configs", "kubernetes_sd_configs")


def load(file: Path) -> dict[str, Any]:
    """The configuration as data, after promtool has accepted it; UserError with its message, file and line if not."""
    import yaml

    promtool.check_config(file)
    data: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return data


def job(config: Mapping[str, Any], name: str, file: str) -> dict[str, Any]:
    """The scrape job of that name. Raises UserError when there is none."""
    jobs = {one["job_name"]: one for one in config.get("scrape_configs") or []}
    if name not in jobs:
        known = ", ".join(jobs) or "none"
        raise UserError(f"there is no scrape job {name!r} (there: {known})", where=file)
    found: dict[str, Any] = jobs[name]
    return found


def placed(
    config: Mapping[str, Any],
    folder: Path,
    targets: Mapping[str, str],
    *,
    interval_s: float | None = None,
    alertmanager: str = "",
    rules: bool = True,
) -> dict[str, Any]:
    """The configuration with only the jobs of `targets` (job -> `host:port` that is live here), on those addresses.

    Rule files become absolute (from `folder`), Alertmanager's address is replaced or left out, and `interval_s`
    replaces every scrape and evaluation interval. All else stays as it was written.
    """
    changed = copy.deepcopy(dict(config))
    jobs = [one for one in changed.get("scrape_configs") or [] if one["job_name"] in targets]
    for one in jobs:
        one["static_configs"] = retargeted(one.get("static_configs") or [{}], targets[one["job_name"]])
        drop_discovery(one)
    changed["scrape_configs"] = jobs
    changed["rule_files"] = [str(folder.resolve() / name) for name in config.get("rule_files") or []] if rules else []
    changed.pop("alerting", None)
    if alertmanager:
        changed["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    return every(changed, interval_s) if interval_s else changed


def retargeted(static: Sequence[Mapping[str, Any]], address: str) -> list[dict[str, Any]]:
    """The first static config on `address`, with the labels that the learner gave it."""
    return [{**static[0], "targets": [address]}]


def drop_discovery(job: dict[str, Any]) -> None:
    """Take the ways by which a job finds its targets out of it; its relabelling stays."""
    for key in DISCOVERY:
        job.pop(key, None)


def every(config: dict[str, Any], interval_s: float) -> dict[str, Any]:
    """The configuration with all scrapes and evaluations `interval_s` apart."""
    interval = f"{round(interval_s * 1000)}ms"
    quick = {"scrape_interval": interval, "scrape_timeout": interval}
    config["global"] = {**(config.get("global") or {}), **quick, "evaluation_interval": interval}
    for one in config["scrape_configs"]:
        one |= {key: interval for key in quick if key in one}
    return config
