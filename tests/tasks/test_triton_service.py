"""Triton, perf_analyzer and Prometheus as services: found, ready, measured, gone afterwards."""

from __future__ import annotations

import importlib.util
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner import environments
from tasks.api import UserError
from tasks.services import perf_analyzer, prometheus, triton
from tasks.services.perf_analyzer import Plan, Run

ROOT = Path(__file__).parents[2]
LOG = """I1122 18:21:32.8 7527 server.cc:336] "fine"
E1122 18:21:32.8 7527 cuda.cc:1] "CudaDriverHelper has not been initialized."
E1122 18:21:32.9 7527 model_lifecycle.cc:642] "failed to load 'm' version 1: Invalid argument: no such thing"
W1122 18:21:33.0 7527 metrics.cc:1] "Failed to initialize NVML"
error: creating server: Internal - failed to load all models
"""
SERVE = r"""
import os, sys
from pathlib import Path
from tasks.services import process, triton
from tasks.triton import pipeline

scratch, config, taken = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ports = iter([taken])
free = process.free_port
process.free_port = lambda: next(ports, None) or free()
repository = pipeline.build(config, scratch, 90).repository
with triton.serve(repository, scratch / "triton.log") as server:
    words = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")
    name = next(word for word in words if word.startswith("--id="))
    print(server.pid, server.http.rpartition(":")[2], name.removeprefix("--id="))
"""


def requests(start: int, end: int, each_ms: float = 10) -> list[tuple[int, int]]:
    """Back-to-back requests between two times in ms; (sent, answered) in ns."""
    return [(int(at * 1e6), int((at + each_ms) * 1e6)) for at in range(start, end, int(each_ms))]


def plan(**changes: Any) -> Plan:
    return Plan("m", [], **changes)


def test_only_the_time_that_all_loads_share_counts() -> None:
    run = Run([*requests(0, 300), *requests(300, 900, 50)], [0, 900_000_000])
    load = perf_analyzer.summarise(plan(), run, 0, 300_000_000)
    assert load.throughput_rps == pytest.approx(100)
    assert load.latency.p99 == pytest.approx(10)
    assert load.stable


def test_windows_that_differ_are_not_called_stable() -> None:
    run = Run([*requests(0, 300), *requests(300, 900, 20)], [0, 900_000_000])
    load = perf_analyzer.summarise(plan(), run, 0, 900_000_000)
    assert not load.stable
    assert "differed" in load.note


def test_a_batch_counts_as_its_samples() -> None:
    run = Run(requests(0, 300), [0, 300_000_000])
    assert perf_analyzer.summarise(plan(batch=8), run, 0, 300_000_000).throughput_rps == pytest.approx(800)


def test_silence_is_an_error_not_a_zero() -> None:
    with pytest.raises(UserError, match="no answers of m"):
        perf_analyzer.summarise(plan(), Run(requests(0, 100), [0, 900_000_000]), 0, 900_000_000)


def test_refusals_are_tritons_errors_without_the_noise(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('E1122 1 1 a.cc:1] "of an earlier start"\n' + LOG, encoding="utf-8")
    assert triton.refusals(log, len(log.read_bytes()) - len(LOG)) == [
        "failed to load 'm' version 1: Invalid argument: no such thing",
        "creating server: Internal - failed to load all models",
    ]


def test_without_a_server_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(triton, "NGC_SERVER", tmp_path / "tritonserver")
    with pytest.raises(UserError, match="pip install nvidia-pytriton"):
        triton.find_installation(tmp_path)


@pytest.mark.slow
def test_a_taken_port_is_no_failure_and_nothing_is_left_behind(tmp_path: Path) -> None:
    python = environments.provision(ROOT, "triton", "managed", print)
    config = ROOT / "plans/week03/day17/ensemble_config.pbtxt"
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        taken = other.server_address[1]
        argv = [str(python), "-c", SERVE, str(tmp_path), str(config), str(taken)]
        env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    pid, port, name = done.stdout.split()
    assert port != str(taken)
    assert not Path(f"/proc/{pid}").exists()
    assert not list(Path("/dev/shm").glob(f"{name}*"))


class Metrics(BaseHTTPRequestHandler):
    """A target with one counter that grows with every scrape."""

    scrapes = 0

    def do_GET(self) -> None:
        type(self).scrapes += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"scrapes_total {self.scrapes}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def target() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.slow
def test_prometheus_scrapes_answers_and_explains(target: str, tmp_path: Path) -> None:
    start = time.time()
    with prometheus.serve({"box": target}, tmp_path, scrape_interval_s=0.2) as server:
        (up,) = server.query('up{job="box"}')
        assert up.samples[0][1] == 1
        (curve,) = server.query_range("scrapes_total", start, time.time() + 1, 0.2)
        assert curve.labels["job"] == "box"
        with pytest.raises(UserError, match="unclosed left parenthesis"):
            server.query("sum(")
    assert not Path(f"/proc/{server.pid}").exists()


@pytest.mark.slow
def test_prometheus_names_the_target_that_it_cannot_scrape(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1/metrics.*connection refused"):  # noqa: SIM117
        with prometheus.serve({"gone": "127.0.0.1:1"}, tmp_path, timeout_s=8):
            pass


def test_silent_windows_are_made_longer_and_then_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def attempt(plan: Plan, grpc: str) -> Run:
        asked.append(plan.window_ms)
        if plan.window_ms < 1000:
            raise perf_analyzer.SilentError("nothing")
        return Run(requests(0, 900), [0, 900_000_000])

    monkeypatch.setattr(perf_analyzer, "attempt", attempt)
    assert perf_analyzer.measure(plan(window_ms=400), "nowhere").throughput_rps == pytest.approx(100)
    assert asked == [400, 1200]
