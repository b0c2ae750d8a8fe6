"""`run lint`: its slow steps are made two at a time, and what is found does not depend on which ends first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.execute import Interrupted
from runner.lint.bench import Bench
from runner.preflight import Machine
from runner.show import Screen

MACHINE = Machine("box", "Debian", "a CPU", 2, 24, (), "", "", 100)
PATIENCE_S = 60


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, MACHINE, Screen.quiet())


def test_findings_come_in_the_order_of_the_steps_though_a_later_one_ends_first(bench: Bench) -> None:
    later_ended = threading.Event()

    def first() -> Iterator[str]:
        assert later_ended.wait(PATIENCE_S), "the steps are not made at the same time"
        yield "first"

    def later() -> Iterator[str]:
        yield "later"
        later_ended.set()

    with bench:
        assert list(bench.findings([first, later, lambda: ["last"]])) == ["first", "later", "last"]


def test_who_waits_for_a_child_is_told_when_lint_is_interrupted_and_the_rest_is_not_begun(bench: Bench) -> None:
    waiting, stopped, begun = threading.Barrier(3), [], []

    def trial() -> Iterator[str]:
        waiting.wait(PATIENCE_S)
        while not stopped_by(bench.tick):
            pass
        stopped.append(True)
        return iter(())

    steps: list[Callable[[], Iterator[str]]] = [trial, trial, lambda: iter(begun.append(True) or [])]
    with pytest.raises(KeyboardInterrupt):
        interrupted(bench, steps, waiting)
    assert (len(stopped), begun) == (2, [])


def interrupted(bench: Bench, steps: list[Callable[[], Iterator[str]]], begun: threading.Barrier) -> None:
    """Ctrl-C once two steps have begun."""
    with bench:
        bench.findings(steps)
        begun.wait(PATIENCE_S)
        raise KeyboardInterrupt


def stopped_by(tick: Callable[[], None]) -> bool:
    try:
        tick()
    except Interrupted:
        return True
    return False
