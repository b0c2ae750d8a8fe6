"""Alertmanager for real: what it is given reaches the webhook, and a bad configuration is refused in its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.api import UserError
from tasks.services import alertmanager


@pytest.mark.slow
def test_an_alert_reaches_the_webhook_and_so_does_its_end(tmp_path: Path) -> None:
    labels = {"alertname": "Slow", "severity": "warning"}
    with (
        alertmanager.webhooks() as hooks,
        alertmanager.serve(alertmanager.configuration(hooks.url("pager")), tmp_path) as server,
    ):
        server.post([{"labels": labels}])
        fired = hooks.wait(lambda one: one.status == "firing", 120)
        assert fired.receiver == "pager"
        assert [alert["labels"] for alert in fired.alerts] == [labels]
        assert [alert["labels"] for alert in server.alerts()] == [labels]
        server.post([{"labels": labels, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2026-01-01T00:00:01Z"}])
        resolved = hooks.wait(lambda one: one.status == "resolved", 120)
        assert resolved.at > fired.at


def test_silence_is_an_error_with_what_was_awaited() -> None:
    with alertmanager.webhooks() as hooks, pytest.raises(UserError, match="no firing alert reached the webhook"):
        hooks.wait(lambda one: True, 0.1, "firing alert")


@pytest.mark.slow
def test_a_bad_configuration_is_refused_in_alertmanagers_words(tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: someone}]\n", encoding="utf-8")
    with pytest.raises(UserError, match="undefined receiver"), alertmanager.serve(config, tmp_path / "data"):
        pass
