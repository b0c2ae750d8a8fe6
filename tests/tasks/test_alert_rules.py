"""Alert rules as they are read, and the bench that tries them; whole files are tried by the checker's fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.alerting import live, rules, signals, simulation
from tasks.alerting.rules import Alert
from tasks.api import UserError
from tasks.checks import alert_rules

REFERENCE = Path(__file__).resolve().parents[2] / "plans" / "week02" / "day14" / "alerts.yaml"


def alert(expression: str, hold_s: float = 60) -> Alert:
    return Alert("A", expression, hold_s, 0, 1)


def test_durations_as_prometheus_writes_them() -> None:
    assert rules.seconds("1h30m") == 5400
    assert rules.seconds("500ms") == 0.5


def test_the_wait_of_a_rule_is_read_with_its_place() -> None:
    gpu, latency, _ = rules.read(REFERENCE)
    assert (gpu.name, gpu.hold_s, gpu.window_s) == ("GpuUtilizationHigh", 300, 60)
    assert REFERENCE.read_text(encoding="utf-8").splitlines()[latency.line - 1].endswith("alert: LatencyP99High")


def test_a_syntax_error_is_promtools_to_explain(tmp_path: Path) -> None:
    file = tmp_path / "alerts.yaml"
    file.write_text("groups:\n- name: a\n  rules:\n  - alert: B\n    expr: rate(x\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"5:11.*could not parse expression"):
        rules.read(file)


def test_series_have_the_labels_that_the_rule_asks_for(tmp_path: Path) -> None:
    one = alert('DCGM_FI_DEV_GPU_UTIL{job="dcgm",gpu="3"} > 90')
    shown = simulation.named(one, signals.gpu("DCGM_FI_DEV_GPU_UTIL")(95)[0])
    assert 'job="dcgm"' in shown
    assert 'gpu="3"' in shown


def test_a_histogram_puts_a_latency_into_its_bucket_and_those_above() -> None:
    series = {one.labels.get("le"): one.level for one in signals.histogram("http_request_duration_seconds_bucket", 150)}
    assert series["0.1"] == 0
    assert series["0.2"] == series["+Inf"] == signals.REQUESTS


def test_an_alert_fires_only_while_its_signal_is_high(tmp_path: Path) -> None:
    found = rules.read(REFERENCE)
    gpu = next(one for one in alert_rules.trials(found, alert_rules.Params()) if one.what == "GPU")
    assert simulation.fires(REFERENCE, gpu.alert, gpu.signal, [90, 91, 50], tmp_path) == [False, True, False]
    assert not simulation.fires_on_a_spike(REFERENCE, gpu.alert, gpu.signal, 50, 100, tmp_path)


@pytest.mark.slow
def test_an_alert_that_does_not_fire_is_not_said_to_have_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "DELIVERY_S", 3.0)
    gpu = rules.read(REFERENCE)[0]
    with pytest.raises(UserError, match="no delivery of GpuUtilizationHigh"):
        live.delivered(REFERENCE, [(gpu, signals.gpu("DCGM_FI_DEV_GPU_UTIL"), 50)], tmp_path)
