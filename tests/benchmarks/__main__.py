"""`make bench`: how fast the runner is beside doit, Snakemake, DVC, an empty Hydra program and a bare child."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from tests.benchmarks import cases, results, timing
from tests.benchmarks.peer import PEERS
from tests.benchmarks.project import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--records", type=int, default=10_000, help="records with the sweep variants")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true", help="leave out doit, Snakemake and DVC")
    parser.add_argument("--save", action="store_true", help="write docs/measured/<date>-speed.md")
    given = parser.parse_args()
    chosen = () if given.no_peers else PEERS
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=120)
    with tempfile.TemporaryDirectory(prefix="infra90-bench-") as folder, console.status("making the projects") as shown:
        commands = cases.everything(Path(folder), given.days, given.records, chosen)
        seconds = timing.interleaved(commands, given.rounds, shown.update)
    found = list(results.ratios(seconds, given.days, given.records, chosen))
    console.print(results.table(found))
    if given.save:
        console.print(f"wrote {results.save(found, given.rounds, chosen, ROOT).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
