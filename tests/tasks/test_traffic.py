"""Traffic behind a real Envoy: overload, gray release, cost; and what kills of replicas and monitoring do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.chaos import scrapes
from tasks.services.prometheus import Prometheus

DAY = Path(__file__).resolve().parents[2] / "plans" / "week02" / "day14"
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
PRICES = {"1core": {"usd_per_hour": 0.05, "listed": "a price list"}}


@pytest.mark.slow
def test_a_limit_turns_the_excess_away_and_nobody_below_it(run_kind: RunKind) -> None:
    params = {"layers": 200, "seconds": 3, "capacity_s": 1.5}
    points = [{"rate_limit": "on", "offered_load": "2x"}, {"rate_limit": "off", "offered_load": "0.5x"}]
    rows, _ = run_kind("traffic_limit", params, points)
    limited, free = (row["metrics"] for row in rows)
    assert limited["rejected_pct"] > 30  # 1.2 of 2 capacities
    assert limited["throughput_rps"] < limited["capacity_rps"]
    assert limited["offered_rps"] == pytest.approx(2 * limited["capacity_rps"], rel=0.4)
    assert free["rejected_pct"] == 0


@pytest.mark.slow
def test_a_release_gives_each_version_its_share_and_right_answers(run_kind: RunKind) -> None:
    params = {"layers_v1": 8, "layers_v2": 16, "qps": 150.0, "before_s": 0.5, "seconds": 3.0}
    rows, _ = run_kind("traffic_canary", params, [{"v2_weight_pct": 50}, {"v2_weight_pct": 100}])
    half, whole = (row["metrics"] for row in rows)
    assert 35 < half["observed_share_pct"] < 65
    assert whole["observed_share_pct"] == 100
    assert whole["error_rate_pct"] == 0
    assert half["answers_checked"] > 0


@pytest.mark.slow
def test_a_release_of_the_same_is_refused(run_kind: RunKind) -> None:
    with pytest.raises(AssertionError, match="must differ"):
        run_kind("traffic_canary", {"layers_v1": 8, "layers_v2": 8}, [{"v2_weight_pct": 10}])


@pytest.mark.slow
def test_the_price_is_spread_over_what_was_answered(run_kind: RunKind) -> None:
    params = {"qps": 40.0, "layers": 20, "seconds": 2.0, "warm_s": 0.5, "prices": PRICES}
    rows, _ = run_kind("load_cost", params, [{"instance": "1core", "qps": "fixed"}])
    found = rows[0]["metrics"]
    assert found["usd_per_qps"] == pytest.approx(0.05 / found["achieved_qps"])
    assert 0 < found["cpu_pct"] <= 100
    assert "a price list" in rows[0]["note"]


@pytest.mark.slow
def test_without_a_price_nothing_is_made_up(run_kind: RunKind) -> None:
    with pytest.raises(AssertionError, match="there is no price for 2core"):
        run_kind("load_cost", {"prices": PRICES}, [{"instance": "2core", "qps": "fixed"}])


@pytest.mark.slow
def test_a_killed_replica_behind_envoy_is_made_good(run_kind: RunKind) -> None:
    params = {"behind": "envoy", "qps": 40.0, "settle_s": 0.7}
    points = [{"fault": "none", "repeats": 1}, {"fault": "pod_delete", "repeats": 2}]
    rows, _ = run_kind("chaos", params, points, backend="Envoy")
    calm, drill = (row["metrics"] for row in rows)
    assert calm["recovery_s"] == 0
    assert calm["error_rate_pct"] == 0
    assert drill["recovery_s"] > 0
    assert drill["error_rate_pct"] < 100


@pytest.mark.slow
def test_monitoring_that_dies_comes_back_and_users_do_not_notice(run_kind: RunKind) -> None:
    params = {"repeats": 1, "qps": 40.0, "layers": 20, "settle_s": 1.2}
    points = [{"target": "prometheus"}, {"target": "grafana"}, {"target": "pod"}]
    files = {"alerts.yaml": DAY / "alerts.yaml"}
    rows, _ = run_kind("chaos_kill", params, points, day_files=files, backend="supervised processes")
    store, dashboard, pod = (row["metrics"] for row in rows)
    assert store["error_rate_pct"] == dashboard["error_rate_pct"] == 0
    assert all(one["mttr_s"] > 0 for one in (store, dashboard, pod))
    assert min(pod["scrape_gap_s"], store["scrape_gap_s"]) > 0.5
    assert store["rules_evaluated"] == 3


@pytest.mark.slow
def test_alert_rules_that_prometheus_refuses_are_said_in_its_words(run_kind: RunKind) -> None:
    broken = {"alerts.yaml": "groups: [{name: a, rules: [{alert: B, expr: 'sum('}]}]"}
    with pytest.raises(AssertionError, match="could not parse expression"):
        run_kind("chaos_kill", {"repeats": 1}, [{"target": "pod"}], day_files=broken, backend="supervised processes")


def test_the_newest_scrape_is_the_samples_time_not_that_of_the_question(tmp_path: Path) -> None:
    """Five minutes in, the last scrape was at 15 s: a Prometheus that answers has not therefore scraped."""
    series = [{"series": 'up{job="model",place="a"}', "values": "1 1"}]
    asked = {"expr": scrapes.NEWEST, "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": 15}]}
    test = {"tests": [{"interval": "15s", "input_series": series, "promql_expr_test": [asked]}]}
    (tmp_path / "test.yaml").write_text(json.dumps(test), encoding="utf-8")
    argv = ["promtool", "test", "rules", str(tmp_path / "test.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Told(Prometheus):
    """A Prometheus whose samples are given."""

    def ask(self, resource: str, arguments: Any) -> Any:
        return {"result": SAMPLES}


SAMPLES = [
    {"metric": {"place": "a", "instance": "1"}, "values": [[100.5, "1"], [101, "1"], [101.5, "0"]]},
    {"metric": {"place": "a", "instance": "2"}, "values": [[104, "1"], [104.5, "1"]]},
    {"metric": {"place": "b", "instance": "3"}, "values": [[t / 2, "1"] for t in range(200, 212)]},
]


def test_a_hole_lasts_from_the_last_good_scrape_of_a_place_to_the_next_whoever_holds_it() -> None:
    assert scrapes.longest_gap_s(Told("", 0), 100, 105) == 3


def test_a_hole_at_the_end_counts() -> None:
    assert scrapes.longest_gap_s(Told("", 0), 100, 110) == 5.5
