"""The cache kind: its load generator and its slow link in process, its scenarios against real Redis and Triton."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from tasks.api import UserError
from tasks.models import answers
from tasks.services import cached_triton
from tasks.traffic import cache_proxy, cache_proxy_concurrency, cache_proxy_load
from tasks.traffic.cache_proxy_link import slow_link

CLIENT = Path(__file__).parents[2] / "plans/week03/day16/redis_client.py"
RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
WIDE = numpy.zeros((8, answers.WIDTH), numpy.float32)


class FakeClient:
    """Answers at once or after `seconds`; remembers how many requests were in flight together."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.now, self.most = seconds, 0, 0

    async def infer(self, x: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.seconds)
        self.now -= 1
        return x + 1


def test_the_model_answers_with_its_version_in_every_element() -> None:
    reference = answers.Reference(version=7)
    x = cache_proxy_load.questions((1,), 1)[0]
    assert {round(float(value)) for value in reference(x)} == {7}
    assert answers.version_of(reference(x)) == 7
    assert reference(x).std() > 0.01  # and it is no constant


def test_a_closed_loop_keeps_exactly_its_workers_busy() -> None:
    client = FakeClient(seconds=0.01)
    samples = asyncio.run(cache_proxy_load.closed_loop(client, WIDE, [n % 8 for n in range(20)], workers=5))
    assert (len(samples), client.most) == (20, 5)
    assert min(sample.seconds for sample in samples) >= 0.009


def test_a_paced_load_does_not_wait_for_answers() -> None:
    client = FakeClient(seconds=0.2)
    samples = asyncio.run(cache_proxy_load.paced(client, WIDE, [0] * 20, rate_rps=200))
    assert len(samples) == 20
    assert client.most > 5


def test_two_answers_to_one_question_are_refused() -> None:
    sample = cache_proxy_load.Sample(input=3, sent=0.0, seconds=0.1, version=1, checksum=11)
    other = cache_proxy_load.Sample(input=3, sent=0.0, seconds=0.1, version=1, checksum=12)
    cache_proxy_load.refuse_changed([sample, sample])
    with pytest.raises(UserError, match="input 3 got two different answers from version 1"):
        cache_proxy_load.refuse_changed([sample, other])


def test_a_client_with_wrong_answers_is_refused_before_timing() -> None:
    with pytest.raises(UserError, match="first answer differs from the model's"):
        asyncio.run(cache_proxy_load.prove(FakeClient(), WIDE[:1] + 1))


def test_too_many_connections_name_the_remedy() -> None:
    with pytest.raises(UserError, match="ulimit -Hn"):
        cache_proxy_concurrency.allow_connections(10**9)


def test_a_slow_link_delays_what_is_sent_and_keeps_its_order() -> None:
    async def story() -> tuple[bytes, float]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while chunk := await reader.read(100):
                writer.write(chunk)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, slow_link(server.sockets[0].getsockname()[1]) as link:
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            writer.write(b"early")
            early = await reader.readexactly(5)
            link.lag_s, start = 0.3, time.perf_counter()
            for part in (b"one ", b"two ", b"three"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            late = await reader.readexactly(13)
            slow_s = time.perf_counter() - start
            writer.close()
        return early + b" " + late, slow_s

    said, slow_s = asyncio.run(story())
    assert said == b"early one two three"
    assert slow_s >= 0.3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "missing or empty"),
        ("", "missing or empty"),
        ("CachedTriton = 5", "defines no CachedTriton"),
        ("def f(:", "cannot be imported: SyntaxError"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit"),
        ("\x00\x01", "cannot be imported"),
    ],
)
def test_a_file_that_is_no_client_says_why(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "redis_client.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=says):
        cached_triton.load_client(file)


def test_only_the_response_cache_has_a_stand_in() -> None:
    tiers = {
        scenario: [need.tier for need in cache_proxy.needs(cache_proxy.Params(scenario=scenario))]
        for scenario in cache_proxy.SCENARIOS
    }
    assert tiers.pop("response_cache") == ["native", "stand-in"]
    assert set(map(tuple, tiers.values())) == {("native",)}


@pytest.mark.slow
def test_three_caches_answer_the_same_requests(run_kind: RunKind) -> None:
    params = {"scenario": "response_cache", "requests": 80, "repeats": 1, "pool": 20}
    points = [{"cache": "off"}, {"cache": "redis"}, {"cache": "triton_local"}]
    rows, _ = run_kind("cache_proxy", params, points, day_files={CLIENT.name: CLIENT}, backend="redis")
    figures = {row["point"]["cache"]: row["metrics"] for row in rows}
    assert figures["off"]["hit_rate_pct"] == 0
    assert figures["redis"]["keyspace_hits"] == 80 * figures["redis"]["hit_rate_pct"] / 100 >= 50
    assert figures["triton_local"]["hit_rate_pct"] >= 60
    assert figures["triton_local"]["keyspace_hits"] == 0
    assert all(figure["latency_p50_ms"] > 0 for figure in figures.values())


@pytest.mark.slow
def test_offered_hits_are_what_redis_counts(run_kind: RunKind) -> None:
    params = {"scenario": "hit_rate", "requests": 40, "repeats": 2, "pool": 10}
    rows, _ = run_kind("cache_proxy", params, [{"hit_rate_pct": 0}, {"hit_rate_pct": 75}], {CLIENT.name: CLIENT})
    assert [row["metrics"]["observed_hit_pct"] for row in rows] == [0, 75]
    assert [row["metrics"]["keyspace_hits"] for row in rows] == [0, 60]
    assert rows[0]["spread"]["latency_p50_ms"]["n"] == 80


@pytest.mark.slow
def test_a_client_that_remembers_outside_redis_is_found_out(run_kind: RunKind) -> None:
    own = CLIENT.read_text() + MEMORY
    with pytest.raises(AssertionError, match="remember nothing outside Redis"):
        run_kind(
            "cache_proxy",
            {"scenario": "hit_rate", "requests": 40, "repeats": 1},
            [{"hit_rate_pct": 50}],
            {CLIENT.name: own},
        )


MEMORY = """
class CachedTriton(CachedTriton):
    memory = {}

    async def infer(self, x):
        key = x.tobytes()
        if key not in self.memory:
            self.memory[key] = await super().infer(x)
        return self.memory[key]
"""


@pytest.mark.slow
def test_a_longer_expiry_hits_more_and_lies_more(run_kind: RunKind) -> None:
    params = {"scenario": "expiry", "rate_rps": 40, "window_s": 7, "update_every_s": 2, "pool": 8}
    rows, _ = run_kind("cache_proxy", params, [{"ttl_s": 1}, {"ttl_s": 60}], {CLIENT.name: CLIENT})
    short, long = (row["metrics"] for row in rows)
    assert short["updates_count"] == 2
    assert short["hit_rate_pct"] < long["hit_rate_pct"]
    assert short["stale_pct"] < long["stale_pct"]
    assert 0 < short["redis_memory_mb"] < long["redis_memory_mb"]


@pytest.mark.slow
def test_every_connection_has_a_request_in_flight(run_kind: RunKind) -> None:
    params = {"scenario": "concurrency", "requests": 2, "repeats": 2, "pool": 16}
    rows, _ = run_kind("cache_proxy", params, [{"concurrency": 300}], {CLIENT.name: CLIENT})
    figures = rows[0]["metrics"]
    assert figures["keyspace_hits"] == 300 * 2 * 2
    assert 0 <= figures["redis_cpu_pct"] <= 110  # of one core, by clock ticks
    assert min(figures["raw_ops_per_s"], figures["ops_per_s"]) > 0


@pytest.mark.slow
def test_policies_differ_after_an_inconsistent_update(run_kind: RunKind) -> None:
    points = [{"invalidation": policy} for policy in ("none", "ttl", "delete_on_update", "versioned_key")]
    params = {"scenario": "inconsistent_update", "ttl_s": 1.0, "window_s": 4.0}
    rows, _ = run_kind("cache_proxy", params, points, {CLIENT.name: CLIENT})
    figures = {row["point"]["invalidation"]: row["metrics"] for row in rows}
    assert figures["none"]["converged"] == 0
    assert figures["ttl"]["converged"] == figures["versioned_key"]["converged"] == 1
    assert figures["versioned_key"]["stale_reads"] < figures["none"]["stale_reads"]
    assert figures["versioned_key"]["conflict_pct"] < figures["delete_on_update"]["conflict_pct"]
    note = next(row["note"] for row in rows if row["point"]["invalidation"] == "none")
    assert "still stale" in note


@pytest.mark.slow
def test_the_reference_client_is_proved_and_a_missing_one_is_not(
    run_check: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    verdict = run_check("redis_client", CLIENT)
    assert verdict["ok"], verdict["message"]
    assert verdict["evidence"]["keyspace_hits"] == 1
    missing = run_check("redis_client", tmp_path / "redis_client.py")
    assert not missing["ok"]
    assert "missing or empty" in missing["message"]
