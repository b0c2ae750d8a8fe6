"""Kinds and checkers on a real Triton: the learner's file is served, values come first, refusals are Triton's words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.triton.rate_limit import jain_index

ROOT = Path(__file__).parents[2]
ENSEMBLE = ROOT / "plans/week03/day17/ensemble_config.pbtxt"
PAIR = ROOT / "plans/week03/day18/multi_model_config.pbtxt"
QUICK = {"window_ms": 200}

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
FixtureFile = Callable[[str], Path]


def metrics(rows: list[dict[str, Any]], **point: Any) -> dict[str, float]:
    """The metrics of the row of one point."""
    found: dict[str, float] = next(row["metrics"] for row in rows if row["point"] == point)
    return found


@pytest.mark.slow
def test_ensemble_is_right_and_the_postprocessing_step_is_really_there(run_kind: RunKind) -> None:
    points: list[dict[str, Any]]
    points = [{"postprocess": "none"}, {"postprocess": "python"}, {"deployment": "single", "concurrency": 4}]
    rows, _ = run_kind("triton_ensemble", QUICK, points, {ENSEMBLE.name: ENSEMBLE})
    without, with_step, single = (metrics(rows, **point) for point in points)
    assert all(row["max_abs_error"] <= 1e-5 for row in (without, with_step, single))
    assert without["postprocess_ms"] == 0 < with_step["postprocess_ms"] < with_step["latency_p99_ms"]
    assert single["throughput_rps"] > 0
    assert all(row["spread"]["latency_p50_ms"]["n"] > 20 for row in rows)


@pytest.mark.slow
def test_a_file_that_triton_refuses_ends_with_tritons_own_message(run_kind: RunKind) -> None:
    broken = ENSEMBLE.read_text(encoding="utf-8").replace('model_name: "softmax"', 'model_name: "softmx"')
    with pytest.raises(AssertionError, match="models that are not available or ambiguous: softmx"):
        run_kind("triton_ensemble", QUICK, [{}], {ENSEMBLE.name: broken})


@pytest.mark.slow
def test_a_file_that_serves_wrong_values_is_not_timed(run_kind: RunKind, fixture_file: FixtureFile) -> None:
    """The learner's own change is what runs: with softmax bypassed the values differ, and nothing is recorded."""
    bypassed = fixture_file("triton_serves/bad/logits_as_output")
    with pytest.raises(AssertionError, match=r"pipeline\.logits differs from the numpy reference"):
        run_kind("triton_ensemble", QUICK, [{}], {ENSEMBLE.name: bypassed})


@pytest.mark.slow
def test_preprocessing_grows_with_the_image_and_the_model_does_not(run_kind: RunKind) -> None:
    points = [{"input_size": "small"}, {"input_size": "large"}]
    params = {"large": 512, "budget_s": 1.0, "requests": 40}
    rows, _ = run_kind("triton_stages", params, points, {ENSEMBLE.name: ENSEMBLE})
    small, large = (metrics(rows, **point) for point in points)
    assert large["preprocess_ms"] > small["preprocess_ms"]  # of 1024 times as many pixels
    assert 0 < small["preprocess_share_pct"] < large["preprocess_share_pct"] <= 100


@pytest.mark.slow
def test_rate_limiter_gives_the_first_model_about_two_thirds(run_kind: RunKind) -> None:
    points = [{"rate_limiter": "on", "priority": "1:1"}, {"rate_limiter": "on", "priority": "1:2"}]
    rows, _ = run_kind("triton_rate_limit", {"window_ms": 400}, points, {PAIR.name: PAIR})
    even, uneven = (metrics(rows, **point) for point in points)
    assert even["share_pct"] == pytest.approx(50, abs=12)
    assert uneven["share_pct"] == pytest.approx(66.7, abs=12)
    assert uneven["share_pct"] > even["share_pct"]


@pytest.mark.slow
def test_each_model_beside_the_other_is_measured_only_while_both_run(run_kind: RunKind) -> None:
    points = [{"deployment": "a_alone"}, {"deployment": "a+b"}]
    rows, _ = run_kind("triton_colocation", QUICK, points, {PAIR.name: PAIR}, backend="Triton on CPU cores")
    alone, both = (metrics(rows, **point) for point in points)
    assert "b_latency_p50_ms" not in alone
    assert min(both["a_latency_p50_ms"], both["b_latency_p50_ms"]) <= both["latency_p50_ms"]
    assert both["latency_p50_ms"] <= max(both["a_latency_p50_ms"], both["b_latency_p50_ms"])


@pytest.mark.slow
def test_instances_are_those_of_the_point(run_kind: RunKind) -> None:
    rows, out = run_kind("triton_instances", QUICK, [{"instances": 3}], {PAIR.name: PAIR})
    assert "model_a_0_2" in (out / "triton.log").read_text(encoding="utf-8")
    assert 0 < metrics(rows, instances=3)["cpu_pct"] < 105 * len(os.sched_getaffinity(0))


def test_jain_index_is_one_for_equal_shares_and_one_nth_for_one_taker() -> None:
    assert jain_index([5, 5, 5]) == pytest.approx(1)
    assert jain_index([7, 0]) == pytest.approx(0.5)
    assert jain_index([2, 1]) == pytest.approx(0.9)
