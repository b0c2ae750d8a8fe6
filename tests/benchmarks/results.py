"""Seconds → ratios → a table for people and a page for docs/measured/."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

from rich.table import Table

from runner import preflight
from tests.benchmarks.peer import Peer
from tests.benchmarks.project import EXPERIMENTS, WEEK

Seconds = Mapping[str, Sequence[float]]
NOTE = """\
Medians of {rounds} rounds; in each round every command runs once, so that each ratio is the median of the ratios of
neighbours in time. "Per no-op experiment" is (a run with a week to do − the same run with nothing to do by every step)
÷ the experiments of a week. It includes the child process, which is forked from one that has pydantic imported, the
start of that one, the point and the record forced to disk, and the day's reports. "Every step" is through Hydra,
preflight, reports and the look for what MLflow lacks; without a second word on the command line, a plan that is done
takes the short cut. MLflow is away in these projects, so sending is in no figure. The 10,000 records are sweep
variants beside the plan's own. DVC's tasks were recorded by `dvc commit`, not executed.
"""


@dataclass(frozen=True)
class Ratio:
    """Ours over theirs. `target` is the most that we want; 0 where there is none."""

    what: str
    against: str
    ours: Sequence[float]
    theirs: Sequence[float]
    target: float = 0.0

    @property
    def value(self) -> float:
        return median(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    def cells(self) -> list[str]:
        target = f"≤ {self.target:g}" if self.target else ""
        met = ("yes" if self.value <= self.target else "no") if self.target else ""
        ours, theirs = f"{median(self.ours) * 1e3:.0f} ms", f"{median(self.theirs) * 1e3:.0f} ms"
        return [self.what, ours, self.against, theirs, f"{self.value:.2f}", target, met]


HEADINGS = ("what", "ours", "against", "theirs", "ratio", "target", "met")


def per_experiment(seconds: Seconds, records: str, experiments: int) -> list[float]:
    """Seconds that one no-op experiment adds to a run, one value a round."""
    busy, idle = seconds[f"a week to do, {records}"], seconds[f"a week, every step, {records}"]
    return [(a - b) / experiments for a, b in zip(busy, idle, strict=True)]


def ratios(seconds: Seconds, days: int, records: int, chosen: Sequence[Peer]) -> Iterator[Ratio]:
    experiments = min(days, WEEK) * EXPERIMENTS
    few, many = (per_experiment(seconds, size, experiments) for size in ("few", "many"))
    targets = {"doit status": 1.0, "snakemake rerun": 1.0}
    hydra = seconds["hydra"]
    status, everything = seconds["status, few"], seconds["nothing to do, all days, few"]
    for peer in chosen:
        name = f"{peer.name} status"
        yield Ratio(f"run status, {days} days", name, status, seconds[name], targets.get(name, 0.0))
    yield Ratio("nothing to do, a week", "empty @hydra.main", seconds["nothing to do, a week, few"], hydra, 1.5)
    for peer in chosen:
        name = f"{peer.name} rerun"
        yield Ratio(f"nothing to do, {days} days", name, everything, seconds[name], targets.get(name, 0.0))
    yield Ratio("per no-op experiment", "import pydantic", few, seconds["pydantic"], 1.5)
    idle = "a week, every step"
    yield Ratio(f"{idle}, nothing to do", "empty @hydra.main", seconds[f"{idle}, few"], hydra)
    own = f"{days * EXPERIMENTS:,} records"
    for what in ("status", "nothing to do, a week", "nothing to do, all days", idle):
        yield Ratio(f"{what}, {records:,} records", own, seconds[f"{what}, many"], seconds[f"{what}, few"])
    yield Ratio(f"per no-op experiment, {records:,} records", own, many, few)


def table(found: Sequence[Ratio]) -> Table:
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in HEADINGS:
        shown.add_column(heading, justify="left" if heading in ("what", "against") else "right")
    for ratio in found:
        shown.add_row(*ratio.cells())
    return shown


def save(found: Sequence[Ratio], rounds: int, chosen: Sequence[Peer], root: Path) -> Path:
    """Write docs/measured/<date>-speed.md."""
    machine = preflight.probe(root)
    versions = {"Python": platform.python_version(), **{peer.name: peer.version() for peer in chosen}}
    versions |= {name: metadata.version(name) for name in ("hydra-core", "pydantic")}
    rows = [HEADINGS, ["---"] * len(HEADINGS), *(ratio.cells() for ratio in found)]
    text = "\n".join([
        f"# Speed, {time.strftime('%F')}", "",
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gb:g} GB, {machine.os}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".", "",
        *(f"| {' | '.join(cells)} |" for cells in rows), "", NOTE.format(rounds=rounds),
    ])  # fmt: skip
    file = root / "docs" / "measured" / f"{time.strftime('%F')}-speed.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file
