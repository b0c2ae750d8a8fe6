"""High concurrency: who is answered what, whom the queue refuses, which replica is chosen."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from tasks import api
from tasks.dispatching import fleet, policies, replicas, server, shared
from tasks.services import burst
from tasks.services.llm.endpoint import Endpoint

SCRIPT = ROOT / "plans" / "week12" / "day83" / "high_concurrency_demo.py"


def answers(status: list[int], number: list[float], unsent: int = 0) -> burst.Answers:
    """So many requests, the last `unsent` of which found no connection."""
    count = len(status)
    sent = np.where(np.arange(count) < count - unsent, 0.01, np.nan)
    return burst.Answers(
        np.arange(count) / 10, np.full(count, 0.25), np.array(status), np.arange(count), np.array(number), sent,
        np.full(count, 0.001),
    )  # fmt: skip


def test_every_request_that_was_due_is_answered_refused_lost_or_was_never_sent() -> None:
    seen = answers([200, 429, 503, 0, 500, 0, 0, 0], [0.0] + [np.nan] * 7, unsent=3)
    assert list(seen.shares().values()) == [12.5, 25, 25, 37.5]
    assert list(seen.shares()) == ["answered_pct", "rejected_pct", "error_rate_pct", "unsent_pct"]
    assert seen.sent_qps(0.2) == 10  # due at 0, 0.1 and 0.2, sent 10 ms later


def test_a_capacity_is_not_bounded_by_what_is_offered_to_find_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offered = []

    def offer(target: Any, seconds: float, qps: float, *_: Any, **__: Any) -> burst.Answers:
        """A server that answers 10 000 requests a second at most, token 0 with the right number."""
        offered.append(qps)
        count = int(seconds * min(qps, 10_000))
        zeros, right = np.zeros(count), np.full(count, float(server.expected(1)[0]))
        return burst.Answers(zeros, zeros + 0.001, np.full(count, 200), zeros, right, zeros, zeros)

    monkeypatch.setattr(burst, "offer", offer)
    ctx = api.Context(day=tmp_path, scratch=tmp_path, settings={})
    params = shared.Served(layers=1)
    assert shared.capacity_qps(burst.Target(1, "/", "", "", 1), 4, "demo", params, ctx) == 10_000
    assert offered == [4000, 16000]


def test_wrong_answers_are_found() -> None:
    seen = answers([200, 200, 429, 503, 0, 500, 200, 200], [0, 2, np.nan, np.nan, np.nan, np.nan, 6, np.nan])
    assert seen.wrong(range(8), 1e-6) == 2  # token 1 was answered 2, token 7 nothing readable
    assert seen.latency_ms().n == 4
    assert seen.achieved_qps(0.5) == 4  # due at 0 and 0.1, answered by 0.5 s


def test_round_robin_takes_turns_whatever_the_load() -> None:
    choose = policies.make("round_robin")
    assert [choose("same", [9, 0, 0]) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_least_outstanding_never_picks_a_busier_replica() -> None:
    choose = policies.make("least_outstanding")
    for load in ([3, 1, 2], [0, 0, 0], [5, 5, 4], [1, 0, 7]):
        assert load[choose("any", load)] == min(load)


def test_affinity_keeps_a_prefix_at_its_replica_until_that_is_far_busier() -> None:
    choose = policies.make("prefix_affinity")
    homes = {str(prefix): choose(str(prefix), [1, 1]) for prefix in range(200)}
    assert all(choose(prefix, [1, 1]) == home for prefix, home in homes.items())
    assert min(Counter(homes.values()).values()) > 60
    home = homes["7"]
    crowded = [9 if replica == home else 1 for replica in range(2)]
    assert choose("7", crowded) != home


def test_a_replica_that_goes_moves_only_its_own_prefixes() -> None:
    choose = policies.make("prefix_affinity")
    three = {str(prefix): choose(str(prefix), [0, 0, 0]) for prefix in range(300)}
    two = {prefix: choose(prefix, [0, 0]) for prefix in three}
    assert all(two[prefix] == home for prefix, home in three.items() if home < 2)


def test_every_document_is_asked_about_equally_often_with_questions_of_their_own() -> None:
    params = replicas.Params(prefixes=4, requests=40, prefix_tokens=32, question_tokens=4)
    work = replicas.workload(params, vocabulary=512, seed=1, turn=0)
    assert set(Counter(ask.document for ask in work).values()) == {10}
    assert len({ask.prompt for ask in work}) == 40
    assert len({ask.prompt[:32] for ask in work}) == 4
    assert all(0 < token < 512 for ask in work for token in ask.prompt)


def test_every_policy_gets_the_same_requests_in_other_words() -> None:
    first, second = (replicas.workload(replicas.Params(), vocabulary=512, seed=1, turn=turn) for turn in (0, 1))
    assert [(ask.document, ask.max_tokens) for ask in first] == [(ask.document, ask.max_tokens) for ask in second]
    assert not {ask.prompt[:16] for ask in first} & {ask.prompt[:16] for ask in second}


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Endpoint]:
    """A server that gives as many tokens as are asked for, or 7 when 8 are."""

    class Stub(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = json.dumps({"usage": {"completion_tokens": min(7, asked["max_tokens"])}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as stub:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        yield Endpoint(f"http://127.0.0.1:{stub.server_port}", "tiny", tmp_path / "log", os.getpid())
        stub.shutdown()


def test_requests_go_where_the_policy_says_and_short_answers_are_refused(replica: Endpoint) -> None:
    pytest.importorskip("aiohttp")
    work = [fleet.Ask(number % 3, (1, 2, 3), 4) for number in range(12)]
    done = asyncio.run(fleet.dispatched([replica] * 2, work, policies.make("round_robin"), concurrency=3))
    assert Counter(one.replica for one in done) == {0: 6, 1: 6}
    assert all(1 <= one.outstanding <= 3 and one.seconds > 0 for one in done)
    with pytest.raises(api.UserError, match="7 of 8 tokens"):
        asyncio.run(fleet.dispatched([replica], [fleet.Ask(0, (1,), 8)], policies.make("round_robin"), 1))


@pytest.mark.slow
def test_a_short_queue_refuses_and_never_grows(run_kind: Callable[..., Any]) -> None:
    params = {"seconds": 1.5, "overload": 5.0, "batch_limit": 2}  # too much, whatever else the machine does
    rows, _ = run_kind("dispatch", params, [{"queue_limit": 4}, {"queue_limit": 400}], {SCRIPT.name: SCRIPT})
    short, long = (row["metrics"] for row in rows)
    assert short["queue_peak"] <= 4 < long["queue_peak"] <= 400
    assert short["rejected_pct"] > 5
    assert short["queue_length"] <= 4
    assert short["offered_qps"] > short["capacity_qps"] > 0


@pytest.mark.slow
def test_an_offered_rate_is_carried_and_every_answer_checked(run_kind: Callable[..., Any]) -> None:
    rows, out = run_kind("dispatch_latency", {"seconds": 1.5}, [{"qps": 40}], {SCRIPT.name: SCRIPT})
    found = rows[0]["metrics"]
    order = [found[f"latency_p{p}_ms"] for p in (10, 25, 50, 75, 90, 95, 99, 999)]
    assert order == sorted(order)
    assert found["answered_pct"] > 80
    assert (out / "latency-cdf.svg").read_text(encoding="utf-8").count("<svg") == 1
    curve = (out / "latency-cdf-40-qps.csv").read_text(encoding="utf-8").splitlines()
    assert float(curve[-1].split(",")[0]) == 100


@pytest.mark.slow
def test_what_the_generator_cannot_send_is_not_blamed_on_the_server(run_kind: Callable[..., Any]) -> None:
    """Two connections to a server that takes its time: it answers whatever reaches it, and most never does."""
    batch = "batch = await self.gather()\n"
    slow = SCRIPT.read_text(encoding="utf-8").replace(batch, batch + " " * 12 + "await asyncio.sleep(0.2)\n")
    params = {"seconds": 2.0, "connections": 2}
    rows, _ = run_kind("dispatch_load", params, [{"qps": 200}], {SCRIPT.name: slow})
    found = rows[0]["metrics"]
    shares = [found[name] for name in burst.SHARES]
    assert sum(shares) == pytest.approx(100)
    assert found["unsent_pct"] > 80
    assert found["error_rate_pct"] == 0
    assert found["achieved_qps"] <= found["sent_qps"] < 30 < found["offered_qps"]
    assert found["latency_p99_ms"] < 2000  # nobody queues in the generator until the time-out


@pytest.mark.slow
def test_a_server_that_mixes_answers_up_is_refused(run_kind: Callable[..., Any]) -> None:
    mixed = SCRIPT.read_text(encoding="utf-8").replace("outcomes = list(outputs)", "outcomes = list(outputs)[::-1]")
    with pytest.raises(AssertionError, match="answers are not those of their own request"):
        run_kind("dispatch_load", {"seconds": 1.0, "max_delay_ms": 20.0}, [{"qps": 300}], {SCRIPT.name: mixed})


@pytest.mark.slow
def test_both_servers_batch(run_kind: Callable[..., Any], tmp_path: Path) -> None:
    points = [{"server": "demo", "max_delay_ms": 5}, {"server": "triton", "max_delay_ms": 5}]
    rows, _ = run_kind("dispatch_batching", {"seconds": 1.0, "connections": 64}, points, {SCRIPT.name: SCRIPT})
    for row in rows:
        assert row["metrics"]["unbatched_rps"] > 0
        assert 1 < row["metrics"]["mean_batch"] <= 32
