"""What the monitoring drill is held on without a cluster: processes, each with a supervisor.

Replicas behind Envoy, a Prometheus that finds them by its file discovery and evaluates the learner's alert rules, and
a small dashboard in Grafana's place.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tasks.api import UserError
from tasks.chaos import envoy_fleet, scrapes
from tasks.chaos.envoy_fleet import EnvoyFleet
from tasks.services import process, prometheus, supervisor
from tasks.services.prometheus import Prometheus
from tasks.services.supervisor import Keeper
from tasks.services.upstream import Upstream

TARGETS, ADDRESS = "targets.json", "prometheus-address"


@dataclass(frozen=True)
class Dashboard:
    address: str
    pid: int


class ProcessPlant:
    """A monitored service of supervised processes; `kill` ends one with SIGKILL."""

    def __init__(self, fleet: EnvoyFleet, store: Keeper[Prometheus], dashboard: Keeper[Dashboard]) -> None:
        self.fleet, self.store, self.dashboard = fleet, store, dashboard
        self.target, self.killed = fleet.target, 0

    def kill(self, what: str, choose: random.Random) -> None:
        victims: dict[str, Sequence[Any]] = {
            "prometheus": [self.store.alive()], "grafana": [self.dashboard.alive()], "pod": self.fleet.alive(),
        }  # fmt: skip
        self.killed = choose.choice(victims[what]).pid
        os.kill(self.killed, signal.SIGKILL)

    def restored(self, what: str, since: float) -> bool:
        """Whether another does the work again: takes requests, shows a panel, has scraped after `since` (unix s)."""
        if what == "pod":
            alive = self.fleet.alive()
            return len(alive) == len(self.fleet.keepers) and all(one.pid != self.killed for one in alive)
        keeper: Keeper[Any] = self.store if what == "prometheus" else self.dashboard
        living = keeper.alive()
        if living is None or living.pid == self.killed:
            return False
        return scrapes.newest(living) > since if what == "prometheus" else shows(living)

    def prometheus(self) -> Prometheus:
        if not (living := self.store.alive()):
            raise UserError("Prometheus is not running")
        return living


@contextmanager
def plant(
    replicas: int, layers: int, retries: int, rules: Path, interval_s: float, folder: Path
) -> Iterator[ProcessPlant]:
    """All of it, running, scraped once and shown once. `rules`: the alert rules, refused as Prometheus refuses them."""
    announce = partial(discovery, folder / TARGETS)
    with ExitStack() as stack:
        fleet = stack.enter_context(envoy_fleet.replicated(replicas, layers, retries, folder / "envoy", announce))
        start = partial(prometheus.configured, configuration(folder, rules, interval_s), folder / "prometheus")
        store: Keeper[Prometheus] = Keeper(start, lambda: address(store, folder / ADDRESS))
        stack.enter_context(supervisor.running(store))
        dashboard = stack.enter_context(supervisor.keeping(partial(served, folder)))
        yield ProcessPlant(fleet, store, dashboard)


def configuration(folder: Path, rules: Path, interval_s: float) -> dict[str, Any]:
    interval = f"{round(interval_s * 1000)}ms"
    discovered = {"files": [str(folder / TARGETS)]}
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": scrapes.JOB, "file_sd_configs": [discovered]}],
    }


def discovery(file: Path, replicas: Sequence[Upstream | None]) -> None:
    """Tell Prometheus where each replica is now; a replica's place keeps its name when another process takes it."""
    found = [
        {"targets": [one.address], "labels": {scrapes.PLACE: f"replica-{number}"}}
        for number, one in enumerate(replicas)
        if one
    ]
    staged = file.with_suffix(".staged")
    staged.write_text(json.dumps(found), encoding="utf-8")
    os.replace(staged, file)


def address(store: Keeper[Prometheus], file: Path) -> None:
    """Where Prometheus is now, for the dashboard."""
    if living := store.current:
        file.write_text(living.address, encoding="ascii")


@contextmanager
def served(folder: Path) -> Iterator[Dashboard]:
    where = f"{process.LOOPBACK}:{process.free_port()}"
    argv = [sys.executable, "-m", "tasks.chaos.panel_server", "--port", where.rpartition(":")[2]]
    argv += ["--prometheus", str(folder / ADDRESS)]
    with process.serve(argv, log=folder / "dashboard.log", ready=lambda: answers(where)) as child:
        yield Dashboard(where, child.pid)


def answers(where: str) -> bool:
    with urlopen(f"http://{where}/health", timeout=2) as answer:
        return bool(answer.status == 200)


def shows(dashboard: Dashboard) -> bool:
    """Whether the page has values in its panels."""
    try:
        with urlopen(f"http://{dashboard.address}/", timeout=5) as answer:
            return "no data" not in answer.read().decode()
    except OSError:
        return False
