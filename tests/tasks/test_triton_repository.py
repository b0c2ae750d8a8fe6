"""Day 5's kinds on a real Triton: the learner's repository, configuration and client are what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

from tasks.triton import rollout
from tasks.triton.canary import Canary
from tasks.triton.repository import blamed

DAY = Path(__file__).parents[2] / "plans/week01/day05"
FILES: dict[str, Any] = {
    str(file.relative_to(DAY)): file
    for file in sorted(DAY.rglob("*"))
    if file.is_file() and "__pycache__" not in file.parts
}
CONFIG = FILES["config.pbtxt"].read_text(encoding="utf-8")
CLIENT = FILES["client_infer.py"].read_text(encoding="utf-8")
QUICK = {"window_ms": 200}

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


def metrics(rows: list[dict[str, Any]], **point: Any) -> dict[str, float]:
    """The metrics of the row of one point."""
    found: dict[str, float] = next(row["metrics"] for row in rows if row["point"] == point)
    return found


def line(text: str) -> int:
    """The first line of the day's configuration that begins with `text`."""
    return 1 + next(n for n, each in enumerate(CONFIG.splitlines()) if each.strip().startswith(text))


@pytest.mark.parametrize(
    ("message", "begins"),
    [
        ("dynamic batching preferred size must be <= max batch size for digits_onnx", "preferred_batch_size"),
        ("instance group digits_onnx_0 of model digits_onnx specifies invalid count", "instance_group"),
        ("version policy of digits_onnx names no version", "version_policy"),
    ],
)
def test_a_refusal_is_traced_to_the_line_that_it_speaks_of(message: str, begins: str) -> None:
    assert blamed(CONFIG, message) == line(begins)


class Fake:
    """A server that gives everybody the answer of one version, or fails."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def infer(self, model: str, inputs: Mapping[str, Any], version: str = "") -> dict[str, Any]:
        return {"y": self.answer}


def canary(shares: Mapping[int, float]) -> Canary:
    expected = {1: numpy.array([[1.0]]), 2: numpy.array([[2.0]])}
    return Canary("", "m", ("x", "y"), numpy.zeros((1, 1)), expected, 1e-4, shares, in_service=(1,))


def ask(given: Canary, answer: float, *, routed: bool = True) -> Any:
    client: Any = Fake(numpy.array([[answer]]))
    return given.ask(client, 0, routed, chance=0.5)


def test_an_answer_of_another_version_than_the_asked_one_is_an_error() -> None:
    assert (ask(canary({1: 1.0}), 1.0).version, ask(canary({1: 1.0}), 1.0).error) == (1, "")
    assert "version 2 does not give" in ask(canary({2: 1.0}), 1.0).error
    assert ask(canary({1: 0.4, 2: 0.6}), 2.0).version == 2  # chance 0.5 falls into the second share


def test_a_client_that_names_no_version_may_only_get_one_that_is_in_service() -> None:
    assert ask(canary({2: 1.0}), 1.0, routed=False).error == ""
    assert "version 1 does not give" in ask(canary({2: 1.0}), 2.0, routed=False).error


class Steps:
    """A load that notes, with the server's side, what is done in which order."""

    in_service: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.taken: list[str] = []

    def switch(self, shares: Mapping[int, float]) -> None:
        self.taken.append("switch")

    def await_answer(self, version: int, since: float) -> float:
        return since

    def drain(self, versions: Sequence[int]) -> None:
        self.taken.append("drain")


@pytest.mark.parametrize(
    ("serving", "steps"), [((1, 2), ["switch", "drain", "load"]), ((2,), ["load", "switch", "drain", "load"])]
)
def test_a_canary_is_given_up_without_a_load_and_a_release_rolled_back_after_one(
    serving: tuple[int, ...], steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: Any = Steps()
    monkeypatch.setattr(rollout.Release, "load", lambda self, versions: given.taken.append("load") or 1.0)
    monkeypatch.setattr(rollout.Release, "has", lambda self, version: version in (1, 2))
    monkeypatch.setattr(rollout.Release, "gone", lambda self, versions, since: 1.0)
    client: Any = None
    move = rollout.Release(client, None, DAY, serving).go(given, {1: 1.0})
    assert given.taken == steps
    assert (move.load_ms > 0) == (steps[0] == "load")


@pytest.mark.slow
def test_a_release_and_its_roll_back_lose_no_answer_and_refuse_a_broken_version(run_kind: RunKind) -> None:
    points = [{"phase": phase} for phase in ("v1", "v1+v2", "v2", "rollback_v1")]
    rows, _ = run_kind("triton_rollout", {"hold_s": 0.4, "canary_pct": 30}, points, FILES)
    found = {row["point"]["phase"]: row["metrics"] for row in rows}
    assert [one["error_rate_pct"] for one in found.values()] == [0] * 4
    assert [one["broken_refused"] for one in found.values()] == [1] * 4
    assert all(one["requests_count"] > 0 and one["load_ms"] > 0 < one["unload_ms"] for one in found.values())
    assert (
        found["v1"]["v2_share_pct"] == found["rollback_v1"]["v2_share_pct"] == 0 < found["v1+v2"]["v2_share_pct"] < 100
    )
    assert found["v2"]["v2_share_pct"] == 100
    assert all(one["rollback_s"] > 0 for one in found.values())
    assert all("broken version: Triton refused" in row["note"] for row in rows)


@pytest.mark.slow
def test_both_caches_hit_what_was_asked_before(run_kind: RunKind) -> None:
    points = [{"cache": cache} for cache in ("off", "triton_local", "client_redis")]
    rows, _ = run_kind("triton_cache", {"requests": 60, "pool": 12, "repeats": 1}, points, FILES)
    off, local, redis = (metrics(rows, **point) for point in points)
    assert off["hit_rate_pct"] == 0 < local["hit_rate_pct"] == redis["hit_rate_pct"] >= 100 * (60 - 12) / 60
    assert min(redis["again_p50_ms"], redis["first_p50_ms"]) > 0


@pytest.mark.slow
def test_a_client_that_passes_redis_by_is_found_out_by_redis(run_kind: RunKind) -> None:
    careless = CLIENT.replace("if (kept := self.redis.get(key)) is not None:", "if (kept := None):")
    with pytest.raises(AssertionError, match=r"requests came again, but the cache counted 0 hits"):
        run_kind(
            "triton_cache",
            {"requests": 20, "pool": 4},
            [{"cache": "client_redis"}],
            {**FILES, "client_infer.py": careless},
        )


@pytest.mark.slow
def test_batches_are_made_only_with_dynamic_batching(run_kind: RunKind) -> None:
    points = [{"dynamic_batching": way, "preferred_batch_size": 8} for way in ("off", "on")]
    rows, _ = run_kind("triton_batching", QUICK, points, FILES)
    off, on = (metrics(rows, **point) for point in points)
    assert off["mean_batch"] == 1 < on["mean_batch"] <= 16
    assert ["no effect" in row["note"] for row in rows] == [True, False]


@pytest.mark.slow
def test_a_configuration_that_triton_refuses_ends_with_its_words_and_the_line(run_kind: RunKind) -> None:
    point = {"dynamic_batching": "on", "preferred_batch_size": 64}
    place = rf"config\.pbtxt:{line('preferred_batch_size')}: Triton refused to start:\n.*preferred size must be <= max"
    with pytest.raises(AssertionError, match=place):
        run_kind("triton_batching", QUICK, [point], FILES)


@pytest.mark.slow
def test_both_protocols_are_measured_and_the_learners_client_is_proved_first(run_kind: RunKind) -> None:
    points = [{"protocol": protocol, "concurrency": 8} for protocol in ("http", "grpc")]
    rows, _ = run_kind("triton_protocols", QUICK, points, FILES)
    for row in rows:
        found = row["metrics"]
        assert found["max_abs_error"] <= 1e-4
        assert min(found["throughput_rps"], found["client_cpu_pct"], found["cpu_pct"]) > 0
        assert row["spread"]["latency_p50_ms"]["n"] > 5
    wrong = {**FILES, "client_infer.py": CLIENT.replace("as_numpy(OUTPUT)", "as_numpy(OUTPUT) + 1")}
    with pytest.raises(AssertionError, match=r"client_infer\.py over http differs"):
        run_kind("triton_protocols", QUICK, [{"protocol": "http", "concurrency": 2}], wrong)


@pytest.mark.slow
def test_every_instance_costs_memory(run_kind: RunKind) -> None:
    params = {"repository": "models", "config": "config.pbtxt", **QUICK}
    rows, _ = run_kind("triton_instances", params, [{"instances": 1}, {"instances": 3}], FILES, backend="Triton")
    one, three = (metrics(rows, instances=count) for count in (1, 3))
    assert three["rss_mb"] > one["rss_mb"] + 40
    assert "vram_mb" not in one  # there is no GPU to measure it on
