"""What is timed: our commands at both sizes, the peers', and the two bare programs that ours are held against."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import peer, project
from tests.benchmarks.peer import Peer
from tests.benchmarks.project import EXPERIMENTS, WEEK, Project
from tests.benchmarks.timing import ENV, Case

HYDRA = """\
import hydra

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    pass

main()
"""
CONFIG = """\
defaults: [_self_, override hydra/job_logging: none, override hydra/hydra_logging: none]
hydra: {output_subdir: null, run: {dir: .}}
"""
DONE = "nothing to do"


def ours(at: Project, records: str) -> list[Case]:
    """Status, a run with nothing to do (by its short cut and all the way), a run with a week to do."""
    week = at.week(1)
    experiments = min(at.days, WEEK) * EXPERIMENTS
    all_the_way = at.run(f"plan={week}", "wait=true")  # a second word keeps it from the short cut

    def forget() -> None:
        for day, experiment in at.experiments():
            if at.week(day) == week:
                shutil.rmtree(at.folder(day, experiment))

    return [
        Case(f"status, {records}", at.run("status"), at.root, at.env, f"{at.days * EXPERIMENTS} passed"),
        Case(f"nothing to do, a week, {records}", at.run(f"plan={week}"), at.root, at.env, DONE),
        Case(f"nothing to do, all days, {records}", at.run("plan=all"), at.root, at.env, DONE),
        Case(
            f"a week, every step, {records}",
            all_the_way,
            at.root,
            at.env,
            "0 to measure",
        ),
        Case(f"a week to do, {records}", at.run(f"plan={week}"), at.root, at.env, f"{experiments} passed", forget),
    ]


def bare(folder: Path) -> list[Case]:
    """An empty Hydra program and a child that only imports pydantic, in the runner's own environment."""
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "empty.py").write_text(HYDRA, encoding="utf-8")
    return [
        Case("hydra", [sys.executable, "empty.py"], folder, ENV),
        Case("pydantic", [sys.executable, "-c", "import pydantic"], folder, ENV),
    ]


def theirs(folder: Path, names: Sequence[str], chosen: Sequence[Peer]) -> list[Case]:
    """Each peer's status and no-change re-run, after it has done everything."""
    cases = []
    for one in chosen:
        place = folder / one.name
        peer.prepare(one, place, list(names))
        for what, words in (("status", one.status), ("rerun", one.rerun)):
            case = Case(f"{one.name} {what}", one.command(words), place, peer.ENV, one.says_done[what])
            cases.append(case)
    return cases


def everything(folder: Path, days: int, records: int, chosen: Sequence[Peer]) -> list[Case]:
    """All cases, in an order that puts each of ours beside what it is compared with."""
    small, large = project.make(folder / "small", days), project.make(folder / "large", days)
    project.finish(small)
    project.finish(large)
    project.multiply(large, records)
    names = [name for _, name in small.experiments()]
    return [*ours(small, "few"), *bare(folder / "bare"), *theirs(folder / "peers", names, chosen), *ours(large, "many")]
