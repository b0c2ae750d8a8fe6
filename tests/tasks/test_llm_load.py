"""Load on a language-model server: what is asked of vllm bench serve, what is read, a server that dies on the way."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks import api
from tasks.llm import api_load, ceiling, curve, sweep
from tasks.llm.ceiling import Probe
from tasks.services.llm import bench, client
from tasks.services.llm.diagnosis import DeadServerError
from tasks.services.llm.endpoint import Endpoint
from tasks.services.process import LOOPBACK

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
SERVER = Endpoint("http://127.0.0.1:1", "tiny", Path("/dev/null"), 0)
FOUND: dict[str, Any] = {
    "completed": 3, "failed": 1, "duration": 2.0, "request_throughput": 1.5, "request_goodput": 0.5,
    "output_throughput": 12.5, "total_token_throughput": 50.0, "total_output_tokens": 25,
    "errors": ["", "", "Connection reset by peer", ""], "output_lens": [11, 11, 0, 3],
    "ttfts": [0.010, 0.020, 0.0, 0.030], "latencies": [0.110, 0.220, 0.0, 0.050],
    "itls": [[0.01], [0.02], [], [0.01]], "generated_texts": ["a", "b", "", "c"],
}  # fmt: skip


def test_a_load_becomes_the_arguments_of_vllm_bench_serve() -> None:
    load = bench.Load(requests=40, request_rate=8.0, slo={"ttft_ms": 200.0, "e2e_ms": 900.0}, seed=7)
    words = " ".join(bench.argv(load, SERVER, Path("/models/tiny")))
    assert "--num-prompts 40" in words
    assert "--request-rate 8 --goodput ttft:200 e2el:900" in words
    assert "--max-concurrency" not in words
    assert "--temperature 0 --ignore-eos" in words
    assert "--tokenizer /models/tiny" in words
    burst = " ".join(bench.argv(bench.Load(requests=4, concurrency=2), SERVER, Path("/models/tiny")))
    assert "--max-concurrency 2 --request-rate inf" in burst
    assert "--goodput" not in burst


def test_an_unknown_bound_of_the_slo_is_named() -> None:
    with pytest.raises(api.UserError, match=r"unknown SLO bound latency \(known: ttft_ms, tpot_ms, e2e_ms\)"):
        bench.argv(bench.Load(requests=1, slo={"latency": 3.0}), SERVER, Path("x"))


def test_a_failed_request_counts_as_failed_and_in_no_time() -> None:
    result = bench.read(FOUND)
    assert (result.completed, result.failed, result.goodput_rps) == (3, 1, 0.5)
    assert result.ttft.n == 3
    assert result.ttft.p50 == pytest.approx(20)
    assert result.tpot.p50 == pytest.approx(10)  # 10, 20 and 10 ms
    assert list(result.texts) == ["a", "b", "c"]
    assert list(result.errors) == ["Connection reset by peer"]
    assert set(result.metrics()) == set(bench.METRICS)


def test_answers_of_one_token_have_no_time_per_further_token() -> None:
    result = bench.read({**FOUND, "output_lens": [1, 1, 0, 1], "itls": [[], [], [], []]})
    assert not {"tpot_p50_ms", "itl_p50_ms"} & {*result.metrics(), *result.spreads()}
    assert result.metrics()["ttft_p50_ms"] == pytest.approx(20)


def context(out: Path, points: Sequence[Any]) -> api.Context:
    return api.Context(day=out, scratch=out, settings={}, out=out, points=points, spec="test")


def test_a_server_that_dies_costs_its_point_alone(tmp_path: Path) -> None:
    points = [ceiling.Point(kv_requests=number) for number in (1, 2, 3)]
    ctx = context(tmp_path, points)
    started: list[int] = []

    @contextmanager
    def start() -> Iterator[Endpoint]:
        started.append(len(started))
        yield SERVER

    def measure(server: Endpoint, point: ceiling.Point) -> None:
        if point.kv_requests == 2:
            raise DeadServerError("the server ended during the load: out of memory")
        ctx.record(point, {"server": float(started[-1])})

    sweep.each(ctx, points, start, measure)
    rows = {row["point"]["kv_requests"]: row for row in api.read_rows(tmp_path / "rows.jsonl", "test")}
    assert rows[1]["metrics"] == {"server": 0}
    assert rows[3]["metrics"] == {"server": 1}
    assert not rows[2]["metrics"]
    assert "out of memory" in rows[2]["blocked"]


RESULT = bench.read(FOUND)


@pytest.mark.parametrize(("carries", "found", "failed_at"), [(11, 11, 12), (0, 0, 1), (64, 64, 65), (5, 5, 6)])
def test_the_ceiling_is_found_between_the_last_that_met_and_the_first_that_did_not(
    carries: int, found: int, failed_at: int
) -> None:
    asked: list[int] = []

    def probe(concurrency: int) -> Probe:
        asked.append(concurrency)
        return Probe(concurrency, RESULT, concurrency <= carries, 0.0)

    assert ceiling.bounds(ceiling.search(probe, 64, 0.01)) == (found, failed_at)
    assert len(asked) == len(set(asked)) <= 11


def test_a_coarse_search_stops_early_with_a_gap() -> None:
    made = ceiling.search(lambda count: Probe(count, RESULT, count <= 45, 0.0), 64, 0.25)
    low, high = ceiling.bounds(made)
    assert low <= 45 < high
    assert high - low <= 0.25 * low


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that is healthy and answers every POST with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(status)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}/v1/completions"
        finally:
            server.shutdown()
            thread.join()


def test_a_request_to_a_server_that_died_says_so_and_a_refusal_stays_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", encoding="utf-8")
    with answering(400) as url:
        alive = Endpoint(url.removesuffix("/v1/completions"), "tiny", log, os.getpid())
        with pytest.raises(api.UserError, match="answered 400") as refused:
            client.complete(alive, "a", 1)
    assert not isinstance(refused.value, DeadServerError)
    with answering(200) as url:  # an empty answer
        for ask, said in ((client.complete, "without a choice"), (client.stream, "ended before the answer did")):
            with pytest.raises(api.UserError, match=said):
                ask(Endpoint(url.removesuffix("/v1/completions"), "tiny", log, os.getpid()), "a", 1)
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))  # bound and not listening: nobody answers here
        gone = Endpoint(f"http://{LOOPBACK}:{free.getsockname()[1]}", "tiny", log, 0)
        for ask in (client.complete, client.stream):
            with pytest.raises(DeadServerError) as died:
                ask(gone, "a", 1)
            assert died.value.brief.startswith("the server ended during the load")
            assert died.value.brief.endswith("likely cause: memory")
            assert "Tried to allocate 2 GiB" in died.value.what


@pytest.mark.parametrize("tool", ["ab", "hey"])
def test_the_tools_samples_and_rate_are_read_and_refusals_told(tool: Any, tmp_path: Path) -> None:
    body = tmp_path / "request.json"
    body.write_text("{}", encoding="utf-8")
    point = api_load.Point(tool=tool, concurrency=4)
    with answering(200) as url:
        report = api_load.attack(point, 40, url, body, tmp_path)
    assert len(report.latencies_ms) == 40
    assert report.failed == 0
    assert min(report.latencies_ms) > 0
    assert max(report.latencies_ms) <= 1000 * report.seconds
    with answering(503) as url, pytest.raises(api.UserError, match="no request was answered with 200"):
        api_load.attack(point, 8, url, body, tmp_path)


def test_hey_answers_for_every_request_of_a_load_that_its_connections_do_not_divide(tmp_path: Path) -> None:
    body = tmp_path / "request.json"
    body.write_text("{}", encoding="utf-8")
    point = api_load.Point(tool="hey", concurrency=7)
    count = api_load.requests(api_load.Params(rounds=1, minimum=24), point)
    with answering(200) as url:
        report = api_load.attack(point, count, url, body, tmp_path)
    assert (len(report.latencies_ms), report.failed) == (28, 0)


def test_the_knee_is_where_throughput_over_response_time_is_highest(tmp_path: Path) -> None:
    ctx = context(tmp_path, ())
    latency = {1: 100.0, 4: 110.0, 16: 160.0, 64: 900.0}
    for rate, ms in latency.items():
        names = (f"{name}_{share}_ms" for name in ("server_e2e", "ttft") for share in ("p50", "p95", "p99"))
        done = min(rate, 20)
        metrics = {**dict.fromkeys(names, ms), "output_tokens_per_s": done * 64.0, "power": done / ms * 1000}
        ctx.record(LoadPoint(request_rate=float(rate)), metrics)
    rows = api.read_rows(tmp_path / "rows.jsonl", "test")
    assert curve.knee(rows)["point"]["request_rate"] == 16
    assert curve.told(rows, "request_rate") == "knee: request rate 16"
    until = [row for row in rows if row["point"]["request_rate"] <= 16]
    assert curve.told(until, "request_rate") == "no knee up to request rate 16"
    curve.draw(ctx, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_points_of_one_load_and_several_lengths_are_no_curve(tmp_path: Path) -> None:
    ctx = context(tmp_path, ())
    for length in (16, 64, 256):
        ctx.record(LoadPoint(request_rate=2.0, prompt_tokens=length), {"power": float(length)})
    curve.draw(ctx, tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


class LoadPoint(api.Params):
    request_rate: float = 0.0
    prompt_tokens: int = 0


def engine_of_this_test() -> int:
    """The process id of the vLLM engine among this process's own children."""
    for child in psutil.Process().children(recursive=True):
        if "EngineCore" in " ".join(child.cmdline()):
            return child.pid
    raise LookupError("no engine runs")


@pytest.mark.slow
def test_a_sweep_goes_on_after_its_engine_was_killed(run_kind: RunKind, tmp_path: Path) -> None:
    rows_file = tmp_path / "out" / "rows.jsonl"

    def kill_after_the_first_row() -> None:
        deadline = time.monotonic() + 850  # whoever comes first trains the model
        while time.monotonic() < deadline and not (rows_file.exists() and rows_file.read_text(encoding="utf-8")):
            time.sleep(0.05)
        os.kill(engine_of_this_test(), signal.SIGKILL)

    killer = threading.Thread(target=kill_after_the_first_row)
    killer.start()
    params = {"prompt_tokens": 32, "output_tokens": 128, "rounds": 8, "minimum": 8, "slo": {"ttft_ms": 60_000.0}}
    points = [{"concurrency": 1}, {"concurrency": 8}, {"concurrency": 2}]
    rows, out = run_kind("llm_benchmark", params, points)
    killer.join()
    by_load = {row["point"]["concurrency"]: row for row in rows}
    assert "the server ended during the load" in by_load[8]["blocked"]
    assert not by_load[8]["metrics"]
    for load in (1, 2):
        found = by_load[load]["metrics"]
        assert found["failed_requests"] == 0
        assert found["goodput_rps"] > 0
        assert found["server_ttft_p50_ms"] > 0
        assert found["server_e2e_p50_ms"] > found["server_ttft_p50_ms"]
    assert "Serving Benchmark Result" in (out / "bench.log").read_text(encoding="utf-8")
