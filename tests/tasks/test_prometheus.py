"""Days 6 and 13: figures from a live Prometheus, with what a learner would notice in each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.checks import metrics_exporter
from tasks.observability import configuration, pods, promtool
from tasks.observability.history import Counters

ROOT = Path(__file__).parents[2]
DAY06, DAY13 = ROOT / "plans/week01/day06", ROOT / "plans/week02/day13"
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


def files(day: Path, **changed: str) -> dict[str, Any]:
    """The day's YAML files; `prometheus="…"` replaces one."""
    found: dict[str, Any] = {file.name: file for file in day.glob("*.yaml") if file.name != "day.yaml"}
    return found | {f"{name}.yaml": text for name, text in changed.items()}


def at(rows: list[dict[str, Any]]) -> dict[Any, dict[str, float]]:
    """The metrics of each row by the value of its first axis."""
    return {next(iter(row["point"].values())): row["metrics"] for row in rows}


@pytest.mark.slow
def test_more_scrapes_cost_more_and_draw_a_smoother_chart(run_kind: RunKind) -> None:
    params = {"series": 500, "window_s": 10, "wave_s": 20}
    rows, _ = run_kind("scrape_cost", params, [{"scrape_interval": "1s"}, {"scrape_interval": "5s"}], files(DAY06))
    found = at(rows)
    assert found["1s"]["samples_per_s"] == pytest.approx(505, rel=0.3)
    assert found["1s"]["samples_per_s"] > 2 * found["5s"]["samples_per_s"]
    assert found["1s"]["series_roughness"] < found["5s"]["series_roughness"]
    assert found["1s"]["chart_error_pct"] < found["5s"]["chart_error_pct"]


@pytest.mark.slow
def test_fine_buckets_are_nearer_to_the_exact_quantiles_and_cost_series(run_kind: RunKind) -> None:
    bounds = {"coarse": [10, 1000], "fine": [5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300]}
    params = {"boundaries_ms": bounds, "seconds": 3, "workers": 8, "routes": 5}
    rows, _ = run_kind("histogram_buckets", params, [{"buckets": "coarse"}, {"buckets": "fine"}], files(DAY06))
    found = at(rows)
    assert found["fine"]["p99_error_pct"] < 25 < found["coarse"]["p99_error_pct"]
    assert found["coarse"]["series_count"] == 5 * (2 + 1 + 3)  # buckets, +Inf, and sum, count, created
    assert found["fine"]["series_count"] == 5 * (14 + 1 + 3)


@pytest.mark.slow
def test_a_recorded_series_is_nearly_the_same(run_kind: RunKind) -> None:
    params = {"series": 80, "hours": 0.75, "budget_s": 0.3, "live_s": 2}
    rows, _ = run_kind("recording_rules", params, [{"query": "raw"}, {"query": "recorded"}], files(DAY13))
    found = at(rows)
    assert min(found["recorded"]["query_p50_ms"], found["raw"]["query_p50_ms"]) > 0
    assert found["recorded"]["rule_eval_ms"] > 0
    assert found["raw"]["value_diff_pct"] == 0
    assert found["raw"]["true_diff_pct"] < 1
    assert found["recorded"]["true_diff_pct"] < 3


@pytest.mark.slow
def test_label_values_become_series_and_go_when_the_gauge_is_rolled_back(run_kind: RunKind) -> None:
    params = {"stages": [0, 3000], "scrapes": 1}
    points = [{"label_values": value} for value in (0, 3000, "rollback")]
    rows, _ = run_kind("label_cardinality", params, points, files(DAY06))
    found = at(rows)
    assert found[3000]["head_series"] - found[0]["head_series"] == pytest.approx(3000, abs=5)
    assert found["rollback"]["head_series"] == pytest.approx(found[0]["head_series"], abs=5)
    assert found[3000]["heap_mb"] > found[0]["heap_mb"]


@pytest.mark.slow
def test_slow_requests_call_the_webhook_and_their_end_calls_it_again(run_kind: RunKind) -> None:
    rows, _ = run_kind("alert_webhook", {}, [{"p99": "above"}], files(DAY06))
    found = rows[0]["metrics"]
    assert 2 < found["time_to_fire_s"] <= found["time_to_webhook_s"]  # `for: 2s`
    assert (found["webhook_count"], found["resolved_bool"]) == (2, 1)
    assert found["p99_ms"] > 100


@pytest.mark.slow
def test_only_annotated_pods_are_scraped(run_kind: RunKind) -> None:
    points = [{"pods": "annotated"}, {"pods": "unannotated"}]
    rows, _ = run_kind("service_discovery", {"pods": 2}, points, files(DAY13))
    found = at(rows)
    assert (found["annotated"]["targets_up"], found["annotated"]["targets_dropped"]) == (2, 0)
    assert (found["unannotated"]["targets_up"], found["unannotated"]["targets_dropped"]) == (0, 2)


@pytest.mark.slow
def test_an_alert_on_the_wrong_route_is_counted(run_kind: RunKind) -> None:
    routes = (DAY13 / "alertmanager.yaml").read_text(encoding="utf-8").replace("receiver: tickets", "receiver: pager")
    params = {"channels": {"warning": "tickets", "critical": "pager"}, "listen_s": 1}
    points = [{"severity": "warning"}, {"severity": "critical"}]
    rows, _ = run_kind("alert_routing", params, points, files(DAY13, alertmanager=routes))
    found = at(rows)
    assert (found["critical"]["delivered_count"], found["critical"]["wrong_route_count"]) == (3, 0)
    assert (found["warning"]["delivered_count"], found["warning"]["wrong_route_count"]) == (0, 3)


@pytest.mark.slow
def test_an_exemplar_leads_from_a_slow_bucket_to_its_trace(run_kind: RunKind) -> None:
    params = {"seconds": 3, "slow_share": 0.2, "budget_s": 0.2}
    rows, _ = run_kind("tracing", params, [{"exemplars": "on"}], files(DAY13))
    assert rows[0]["metrics"]["exemplar_count"] > 0
    assert rows[0]["metrics"]["resolved_trace_pct"] == 100


JOB = "scrape_configs:\n- job_name: a\n  "


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("prometheus", f"{JOB}static_config: []\n", "prometheus.yaml:3: field static_config not found"),
        ("prometheus", "scrape_configs: [\n", "prometheus.yaml:1: did not find"),
        ("rules", "groups:\n- name: g\n  rules:\n  - {record: a, expr: sum(b}\n", "rules.yaml:4: .*unclosed"),
        ("prometheus", f"{JOB}kubernetes_sd_configs: [{{role: pod}}]\n", "(?s).*the build of prometheus.io"),
    ],
)
def test_promtools_refusal_says_where(name: str, text: str, says: str, tmp_path: Path) -> None:
    for file, content in files(DAY13, **{name: text}).items():
        (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content.read_bytes())
    with pytest.raises(UserError, match=says):
        configuration.load(tmp_path / "prometheus.yaml")


def test_a_learners_jobs_run_on_other_addresses_with_their_own_rules() -> None:
    config = configuration.load(DAY06 / "prometheus.yaml")
    placed = configuration.placed(config, DAY06, {"service": "127.0.0.1:1"}, interval_s=1, alertmanager="127.0.0.1:2")
    (job,) = placed["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:1"]}]
    assert job["metric_relabel_configs"] == configuration.job(config, "service", "")["metric_relabel_configs"]
    assert placed["rule_files"] == [str(DAY06 / "rules.yaml")]
    assert placed["global"]["scrape_interval"] == "1000ms"
    assert config["global"]["scrape_interval"] == "5s"
    with pytest.raises(UserError, match="no scrape job 'gpu'"):
        configuration.job(config, "gpu", "prometheus.yaml")


def test_on_a_cluster_the_same_rules_meet_kubernetes_discovery() -> None:
    job = configuration.job(configuration.load(DAY13 / "prometheus.yaml"), "pods", "")
    cluster = pods.ClusterPods("space", "127.0.0.1:8001", "image", 9100)
    found = cluster.discover(dict(job))
    assert "file_sd_configs" not in found
    assert found["kubernetes_sd_configs"][0]["api_server"] == "http://127.0.0.1:8001"
    assert found["relabel_configs"][: len(job["relabel_configs"])] == job["relabel_configs"]
    assert "prometheus.io/scrape" in cluster.manifest(0, True)["metadata"]["annotations"]
    assert "prometheus.io/scrape" not in cluster.manifest(0, False)["metadata"]["annotations"]


def test_the_known_counters_never_fall_and_have_the_rate_they_say() -> None:
    counters = Counters(20, 1000.0)
    one, two = counters.values(1600.0), counters.values(7600.0)
    assert (counters.values(1000.0) == 0).all()
    assert ((two - one) / 6000).tolist() == pytest.approx([1 + n % 17 for n in range(20)], rel=0.05)


def test_lint_of_metrics_and_nvidia_smis_table() -> None:
    assert promtool.check_metrics("# HELP a_total Things\n# TYPE a_total counter\na_total 1\n") == []
    assert "_total" in promtool.check_metrics("# HELP a Things\n# TYPE a counter\na 1\n")[0]
    assert metrics_exporter.parsed("GPU-1, 41\nGPU-2, 38\n") == {"GPU-1": 41, "GPU-2": 38}
    hot = [("nvml_up", {}, 1.0), ("gpu_temperature_celsius", {"uuid": "GPU-1"}, 45.0)]
    with pytest.raises(UserError, match="41 °C by nvidia-smi, at 45 °C by the exporter"):
        metrics_exporter.seeing(hot, metrics_exporter.Params(), {"GPU-1": 41.0})
