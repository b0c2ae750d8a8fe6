"""Day 7's service: started by its own command, measured through its gateway; what is wrong with it is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.traffic import ramp

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "ai-infra-inference-service"
DAY = ROOT / "plans" / "week01" / "day07"
FILES = {str(path.relative_to(DAY)): path for path in (DAY / SERVICE).rglob("*") if path.is_file()}
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


@pytest.mark.slow
def test_a_ramp_goes_through_the_gateway_and_says_where_the_knee_is(run_kind: RunKind) -> None:
    rows, out = run_kind("load_ramp", {"seconds": 1.5, "warm_s": 1}, [{"qps": 20}, {"qps": 60}], FILES)
    for row, qps in zip(rows, (20, 60), strict=True):
        measured = row["metrics"]
        assert measured["error_rate_pct"] == 0
        assert measured["knee_qps"] in (0, 20, 60)
        assert measured["latency_p50_ms"] <= measured["latency_p95_ms"] <= measured["latency_p99_ms"]
        assert 0 < measured["achieved_qps"] < 1.5 * qps
    assert len((out / "queue.csv").read_text().splitlines()) > 1  # what the service's own Prometheus saw


@pytest.mark.slow
def test_a_model_that_triton_refuses_fails_in_its_words(run_kind: RunKind, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(DAY / SERVICE, tmp_path / SERVICE))
    config = broken / "models/digits/config.pbtxt"
    config.write_text(config.read_text(encoding="utf-8").replace("TYPE_FP32 dims: [ 10 ]", "TYPE_FP99 dims: [ 10 ]"))
    files = {f"{SERVICE}/{path.relative_to(broken)}": path for path in broken.rglob("*") if path.is_file()}
    with pytest.raises(AssertionError, match="TYPE_FP99"):
        run_kind("load_ramp", {}, [{"qps": 20}], files)


@pytest.mark.slow
def test_the_first_request_after_a_start_is_told_from_the_others(run_kind: RunKind) -> None:
    rows, _ = run_kind("triton_warmup", {"starts": 2, "steady": 20}, [{"warmup_n": 0}], FILES)
    assert rows[0]["spread"]["first_request_ms"]["n"] == 2
    assert rows[0]["spread"]["steady_p50_ms"]["n"] == 2 * 20
    assert min(rows[0]["metrics"].values()) > 0


@pytest.mark.slow
def test_both_layouts_have_four_instances(run_kind: RunKind) -> None:
    points = [{"layout": "2x2"}, {"layout": "1x4"}]
    rows, _ = run_kind("triton_layout", {"window_ms": 200}, points, FILES)
    split, single = (row["metrics"] for row in rows)
    assert 0.8 < split["rss_mb"] / single["rss_mb"] < 1.25
    assert min(split["throughput_rps"], single["throughput_rps"]) > 0
    assert "vram_mb" not in split


@pytest.mark.parametrize(
    ("rates", "knee"),
    [
        ([(100, 100, 5), (200, 199, 9), (500, 400, 90)], 200),  # 400 of 500 is no keeping up
        ([(100, 100, 5), (200, 200, 60), (500, 500, 8)], 100),  # a tail of twelve times the lowest rate's
        ([(100, 20, 5)], 0),
        ([(500, 500, 8), (100, 100, 5)], 500),
    ],
)
def test_the_knee_is_the_last_rate_that_was_kept_up_with(rates: list[tuple[int, float, float]], knee: float) -> None:
    ramped = [(qps, {"achieved_qps": achieved, "latency_p99_ms": p99}) for qps, achieved, p99 in rates]
    assert ramp.knee(ramped) == knee
