"""What the user asked for, as a value that is passed along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import spec
from runner.jobs import Job
from runner.plan import Plan
from runner.settings import MEASURED
from tasks.api import Needs

SEED = 90  # as conf/config.yaml has it


@dataclass(frozen=True)
class Request:
    root: Path
    settings: Mapping[str, Any]  # the composed model, machine, tracking, environment groups
    defaults: Mapping[str, Any]  # the same groups as conf/config.yaml chooses them
    plain: Mapping[tuple[str, str], Mapping[str, Any]]  # each experiment's stanza as its file has it
    overrides: tuple[str, ...] = ()
    force: bool = False
    wait: bool = False
    sweep: bool = False  # one of several jobs of a multirun
    seed: int = SEED
    lang: str = "en"

    @property
    def mode(self) -> str:
        """`managed` environments or the `current` interpreter."""
        return str(self.settings["environment"]["mode"])

    def variant(self, job: Job, needs: Needs) -> str:
        """'' for what the plan says, else a name for what the command line changed: kept apart from the plan's own.

        All that one command changed has one name, and so one workspace: an export and what reads it belong together.
        """
        stanza = job.experiment.stanza()
        groups = {group: self.settings[group] for group in needs.settings}
        changed = stanza != self.plain.get((job.day.id, job.id), stanza)
        usual = all(self.defaults[group] == value for group, value in groups.items()) and self.seed == SEED
        if not changed and usual:
            return ""
        return spec.digest([sorted(filter(_changes_work, self.overrides)), self.settings["model"]])[:8]


def _changes_work(override: str) -> bool:
    """Whether an override changes what is measured, not which of it or how the command behaves."""
    key = override.partition("=")[0]
    return key != "plan" and key.partition(".")[0] in ("plan", *MEASURED, "seed")


def plain_stanzas(plan: Plan) -> dict[tuple[str, str], dict[str, Any]]:
    return {(day.id, experiment.id): experiment.stanza() for day in plan.days for experiment in day.experiments}
