"""The autoscaler's formula against the examples of Kubernetes' documentation and of its controller's own tests."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tasks.api import UserError
from tasks.kubernetes import hpa, manifest, quantities
from tasks.kubernetes.hpa import Bounds, History, Policy, Rules

REFERENCE = Path(__file__).resolve().parents[2] / "plans" / "week03" / "day20" / "hpa.yaml"


@pytest.mark.parametrize(
    ("current", "samples", "target", "expected"),
    [
        (1, [200.0], 100, 2),  # documentation: 200m against 100m doubles the replicas
        (2, [50.0, 50.0], 100, 1),  # documentation: 50m against 100m halves them
        (3, [300.0, 500.0, 700.0], 300, 5),  # replica_calculator_test.go: TestReplicaCalcScaleUp, CPU
        (3, [300.0, 500.0, None], 300, 3),  # ...UnreadyLessScale: the unready pod counts as 0: 800/900, in tolerance
        (3, [400.0, 500.0, None], 300, 3),  # exactly the target on three
        (4, [300.0, 500.0, 700.0, None], 300, 5),  # the pod on its way damps 5/3 to 5/4
        (5, [100.0] * 5, 300, 2),  # down: ceil(5 × 1/3)
        (3, [109.0] * 3, 100, 3),  # within the tolerance of 0.1
        (3, [110.0] * 3, 100, 3),
        (3, [111.0] * 3, 100, 4),
        (10, [91.0] * 10, 100, 10),
        (10, [89.0] * 10, 100, 9),
        (2, [], 100, 2),  # no metric at all: nothing is done
        (2, [None, None], 100, 2),
        (3, [0.1 + 0.2], 0.1, 3),  # 0.30000000000000004 / 0.1 is three
    ],
)
def test_wanted(current: int, samples: list[float | None], target: float, expected: int) -> None:
    assert hpa.wanted(current, samples, target) == expected


@pytest.mark.parametrize(
    ("samples", "assumed_low", "expected"),
    [
        ([20.0, 20.0, None], None, 1),  # CPU: an unready pod says nothing on the way down: ceil(2 × 0.2)
        ([20.0, 20.0, None], 100.0, 2),  # Pods metric: it counts as using its target: ceil(3 × 140/300)
    ],
)
def test_pods_without_a_metric_hold_a_scale_down_back(
    samples: list[float | None], assumed_low: float | None, expected: int
) -> None:
    assert hpa.wanted(3, samples, 100, assumed_low=assumed_low) == expected


def test_the_documented_scale_down_from_80_to_10() -> None:
    """4 pods or 10% a minute, whichever is more: 8, 8 (7.2 rounded up), … and 4 at a time below 40."""
    down = Rules(0, (Policy("Pods", 4, 60), Policy("Percent", 10, 60)))
    bounds, history, current, seen = Bounds(10, 100, down=down), History(), 80, []
    for minute in range(20):
        current, history = hpa.decide(current, 10, bounds, history, minute * 60.0)
        seen.append(current)
    assert seen[:4] == [72, 64, 57, 51]
    below_40 = [replicas for replicas in seen if replicas <= 40]
    assert all(before - after == 4 for before, after in itertools.pairwise(below_40) if after > 10)
    assert seen[-1] == 10


@pytest.mark.parametrize(
    ("select", "expected"),
    [("Max", 20), ("Min", 14), ("Disabled", 10)],
)
def test_the_policy_that_is_selected_limits_a_scale_up(select: str, expected: int) -> None:
    up = Rules(0, (Policy("Pods", 4, 15), Policy("Percent", 100, 15)), select)  # type: ignore[arg-type]
    assert hpa.decide(10, 50, Bounds(1, 100, up=up), History(), 0.0)[0] == expected


def test_a_policy_counts_what_its_period_already_added() -> None:
    up = Rules(0, (Policy("Pods", 4, 15),))
    bounds, history = Bounds(1, 20, up=up), History()
    first, history = hpa.decide(1, 20, bounds, history, 0.0)
    second, history = hpa.decide(first, 20, bounds, history, 10.0)
    third, history = hpa.decide(second, 20, bounds, history, 16.0)
    assert (first, second, third) == (5, 5, 9)


@pytest.mark.parametrize(("window", "seen"), [(0, [1, 4, 1, 4, 1]), (15, [4, 4, 4, 4, 1]), (60, [4, 4, 4, 4, 4])])
def test_a_window_forgets_a_peak_only_after_its_time(window: float, seen: list[int]) -> None:
    """Wanted 4 and 1 in turn every 8 s, then 1 for 18 s."""
    bounds = Bounds(1, 4, down=Rules(window, (Policy("Percent", 100, 1),)))
    current, history, found = 4, History(wanted=((-1.0, 4),)), []
    for now, wanted in [(8.0, 1), (16.0, 4), (24.0, 1), (32.0, 4), (50.0, 1)]:
        current, history = hpa.decide(current, wanted, bounds, history, now)
        found.append(current)
    assert found == seen


def test_a_scale_up_window_waits_for_the_lowest() -> None:
    bounds = Bounds(1, 10, up=Rules(30, (Policy("Pods", 10, 15),)))
    first, history = hpa.decide(1, 8, bounds, History(wanted=((0.0, 1),)), 10.0)
    later, _ = hpa.decide(first, 8, bounds, history, 31.0)
    assert (first, later) == (1, 8)


def test_bounds_hold_whatever_is_wanted() -> None:
    bounds = Bounds(2, 4, down=Rules(0, (Policy("Percent", 100, 15),)))
    assert hpa.decide(3, 99, bounds, History(), 0.0)[0] == 4
    assert hpa.decide(3, 0, bounds, History(), 0.0)[0] == 2


def test_the_reference_is_read_as_written() -> None:
    found = manifest.read(REFERENCE)
    assert (found.deployment, found.bounds.least, found.bounds.most) == ("triton", 1, 4)
    assert (found.cpu_target_pct, found.qps_target, found.cpu_request) == (50, 250, 0.25)
    assert found.bounds.down == Rules(15, (Policy("Percent", 100, 15),))
    assert found.with_cooldown(60).bounds.down.window_s == 60


def test_defaults_are_those_of_the_api_server(tmp_path: Path) -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    (tmp_path / "hpa.yaml").write_text(text[: text.index("  behavior:")], encoding="utf-8")
    found = manifest.read(tmp_path / "hpa.yaml")
    assert found.bounds.down == Rules(300, (Policy("Percent", 100, 15),))
    assert found.bounds.up == Rules(0, (Policy("Pods", 4, 15), Policy("Percent", 100, 15)))


@pytest.mark.parametrize("text", ["", "{", "kind: Deployment", "- 1\n- 2\n", "\x00"])
def test_a_file_that_is_no_autoscaler_is_the_users_to_mend(text: str, tmp_path: Path) -> None:
    (tmp_path / "hpa.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"hpa\.yaml"):
        manifest.read(tmp_path / "hpa.yaml")


@pytest.mark.parametrize(
    ("written", "value"), [("250m", 0.25), ("1", 1), (2, 2), ("1500m", 1.5), ("1k", 1000), ("0.5", 0.5)]
)
def test_quantities(written: str | int, value: float) -> None:
    assert quantities.amount(written) == pytest.approx(value)
