"""The dashboard and the latency curves: their figures come from a live Prometheus on a Triton under load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.observability import panels

ROOT = Path(__file__).parents[2]
ENSEMBLE = ROOT / "plans/week03/day17/ensemble_config.pbtxt"
PAIR = ROOT / "plans/week03/day18/multi_model_config.pbtxt"
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


@pytest.mark.slow
def test_every_query_of_the_dashboard_file_is_answered_and_agrees_with_triton(run_kind: RunKind) -> None:
    points = [{"model": model} for model in ("normalize", "model", "softmax", "ensemble")]
    rows, out = run_kind("dashboard", {"window_ms": 1000}, points, {ENSEMBLE.name: ENSEMBLE})
    assert [row["point"] for row in rows] == points
    for row in rows:
        assert row["metrics"]["panel_query_ok_bool"] == 1
        assert row["metrics"]["panel_points"] >= len(panels.DURATIONS)
        assert row["metrics"]["statistics_diff_pct"] < 5
    dashboard = json.loads((out / "grafana_dashboard.json").read_text(encoding="utf-8"))
    assert [panel["title"] for panel in dashboard["panels"]] == [point["model"] for point in points]
    assert all(len({t["refId"] for t in panel["targets"]}) == len(panels.DURATIONS) for panel in dashboard["panels"])
    assert (out / "grafana_panels.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_latency_curves_of_both_models_stand_beside_what_clients_saw(run_kind: RunKind) -> None:
    rows, out = run_kind("metrics_stack", {"window_ms": 1000}, [{"model": "a"}, {"model": "b"}], {PAIR.name: PAIR})
    for row in rows:
        found = row["metrics"]
        assert 0 < found["queue_ms"] + found["compute_ms"] <= found["mean_latency_ms"]
        assert found["client_mean_latency_ms"] > 0  # of the measured windows; the server's is of the warm-up too
        assert found["scrape_points"] >= 5
    assert (out / "latency_curves.png").read_bytes().startswith(b"\x89PNG")
