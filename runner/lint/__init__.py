"""`run lint` proves the content: plans, kinds, references, checkers and their fixtures. No GPU is needed."""

from __future__ import annotations

from pathlib import Path

from runner.build import build
from runner.jobs import Work, expand
from runner.lint import content, fixtures, references
from runner.lint.bench import Bench
from runner.plan import Plan, load, names
from runner.preflight import probe
from runner.show import Screen


def run(root: Path, screen: Screen) -> int:
    """Print every finding; 0 when there is none, else 1."""
    plan, work = everything(root)
    count = 0
    with Bench(root, probe(root), screen) as bench:
        for title, findings in (
            ("plans and inventory", content.findings(plan, work, root)),
            ("references", bench.findings(references.steps(work, bench))),
            ("checkers", bench.findings(fixtures.steps(bench))),
        ):
            found = list(findings)
            screen.line(f"{'[red]✗[/]' if found else '[green]✓[/]'} {title}")
            for finding in found:
                screen.notes([finding])
            count += len(found)
    screen.line(f"{count} findings" if count else "the content holds")
    return 1 if count else 0


def everything(root: Path) -> tuple[Plan, Work]:
    """All days, validated as a run would; each plan's own name must load too. Raises Mistakes."""
    for name in names(root):
        build(load(root, name), root)
    plan = build(load(root, "all"), root)
    return plan, expand(plan, root)
