"""The soak: a slope that is a leak's, and a real Triton under a steady load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.services import resident


def test_the_slope_is_that_of_a_leak() -> None:
    """1 kB for each of 1000 requests a second: 3.6 GB an hour, found within its own standard error."""
    memory = [(second / 2, 500 + second / 2 * 1.0 + (0.1 if second % 2 else -0.1)) for second in range(80)]
    growth, error = resident.slope(memory)
    assert growth == pytest.approx(3600, abs=4 * error)
    assert 0 < error < 10


def test_a_steady_server_shows_no_growth_beyond_the_error() -> None:
    growth, error = resident.slope([(second / 2, 300 + (second % 3)) for second in range(80)])
    assert abs(growth) < 3 * error


def test_too_few_samples_give_no_slope() -> None:
    with pytest.raises(UserError, match="too few"):
        resident.slope([(0.0, 1.0), (1.0, 2.0)])


@pytest.mark.slow
def test_a_real_triton_under_a_steady_load(run_kind: Callable[..., tuple[list[dict[str, Any]], Path]]) -> None:
    params = {"seconds": 10.0, "warm_s": 1.0}
    rows, out = run_kind("soak", params, [{"qps": 50, "duration": "long"}])
    metrics = rows[0]["metrics"]
    assert metrics["achieved_qps"] == pytest.approx(50, rel=0.3)
    assert metrics["error_rate_pct"] == 0
    assert rows[0]["spread"]["latency_p99_ms"]["n"] > 300
    assert len((out / "memory.csv").read_text(encoding="utf-8").splitlines()) > 10
