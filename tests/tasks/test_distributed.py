"""Tensor and sequence parallelism: the arithmetic of bytes and spans, and real ranks on the day's own script."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from tasks.api import UserError
from tasks.distributed import formula, spans
from tasks.distributed.shape import Shape

SCRIPT = ROOT / "plans" / "week12" / "day80" / "tensor_parallel_demo.py"
SMALL = {"hidden": 64, "heads": 4, "layers": 1, "batch": 2, "tokens": 32, "repeats": 5}


def test_two_ranks_send_the_whole_activation_in_each_all_reduce() -> None:
    """2(p-1)/p is 1 for two ranks and 1.5 for four; a block has two all-reduces."""
    activation = 2 * 32 * 64 * 4
    assert formula.tensor_parallel_bytes(2, 32, 64, layers=1, ways=2) == 2 * activation
    assert formula.tensor_parallel_bytes(2, 32, 64, layers=3, ways=4) == 3 * 2 * 1.5 * activation


def test_sequence_parallel_sends_as_much_as_tensor_parallel_but_for_gloos_reduce_scatter() -> None:
    tensor = formula.tensor_parallel_bytes(1, 64, 32, layers=2, ways=4)
    assert formula.sequence_parallel_bytes(1, 64, 32, layers=2, ways=4, backend="NCCL") == tensor
    assert formula.sequence_parallel_bytes(1, 64, 32, layers=2, ways=4, backend="gloo") == 1.5 * tensor


def test_spans_are_counted_once_where_they_overlap_and_their_common_time_is_found() -> None:
    computing = spans.merged([(4, 6), (0, 2), (1, 3)])
    assert computing == [(0, 3), (4, 6)]
    assert spans.length(computing) == 5
    assert spans.common(computing, [(2, 5), (5.5, 9)]) == pytest.approx(1 + 1 + 0.5)
    assert spans.common(computing, []) == 0


def test_heads_that_cannot_be_divided_are_named() -> None:
    with pytest.raises(UserError, match="3 heads cannot be divided among 2 ranks"):
        Shape(hidden=12, heads=3).divided(2)
    with pytest.raises(ValueError, match="hidden 10 is not a multiple of 4 heads"):
        Shape(hidden=10, heads=4)


@pytest.mark.slow
def test_two_ranks_equal_one_device_and_the_kernel_counts_the_formulas_bytes(run_kind: Callable[..., Any]) -> None:
    rows, _ = run_kind("parallel_demo", SMALL, [{"ways": 2}], {SCRIPT.name: SCRIPT})
    (row,) = rows
    found = row["metrics"]
    assert found["max_abs_diff"] <= 1e-5
    assert found["comm_bytes"] == found["formula_bytes"] == 2 * 2 * 32 * 64 * 4
    assert found["formula_bytes"] <= found["wire_bytes"] < found["formula_bytes"] + 4096
    assert 50 <= found["weight_share_pct"] < 55
    assert row["spread"]["latency_ms"]["n"] == 5


@pytest.mark.slow
def test_sequence_parallel_keeps_fewer_activations(run_kind: Callable[..., Any]) -> None:
    points = [{"ways": 2, "seq_len": 32}, {"ways": 2, "seq_len": 64}]
    rows, _ = run_kind("parallel_sequence", SMALL, points, {SCRIPT.name: SCRIPT})
    assert [row["point"]["seq_len"] for row in rows] == [32, 64]
    for row in rows:
        assert row["metrics"]["max_abs_diff"] <= 1e-5
        assert row["metrics"]["activation_mib"] < 0.95 * row["metrics"]["activation_tp_mib"]
    assert rows[1]["metrics"]["activation_mib"] > 1.8 * rows[0]["metrics"]["activation_mib"]


@pytest.mark.slow
def test_overlap_is_seen_by_the_profiler_and_drawn(run_kind: Callable[..., Any]) -> None:
    points = [{"ways": 2, "overlap": "off"}, {"ways": 2, "overlap": "on"}]
    larger = {**SMALL, "hidden": 256, "tokens": 128}
    rows, out = run_kind("parallel_overlap", larger, points, {SCRIPT.name: SCRIPT})
    off, on = (row["metrics"] for row in rows)
    assert on["overlap_pct"] > 1
    assert off["overlap_pct"] < on["overlap_pct"] / 2
    assert min(off["compute_ms"], off["comm_ms"], on["compute_ms"], on["comm_ms"]) > 0
    assert {file.name for file in out.glob("*.svg")} == {
        "timeline-2-ways-overlap-off.svg", "timeline-2-ways-overlap-on.svg",
    }  # fmt: skip


@pytest.mark.slow
def test_a_wrong_script_is_refused_before_anything_is_timed(run_kind: Callable[..., Any], tmp_path: Path) -> None:
    broken = SCRIPT.read_text(encoding="utf-8").replace("return piece + summand + bias", "return piece + summand")
    with pytest.raises(AssertionError, match="differs from one device's"):
        run_kind("parallel_demo", SMALL, [{"ways": 2}], {SCRIPT.name: broken})
    assert not (tmp_path / "out" / "rows.jsonl").exists()
