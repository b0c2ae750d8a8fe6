"""The load generator: its rate, what it calls a latency, and that no failure is lost."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner import environments
from tasks.services.open_load_client import arrivals

ROOT = Path(__file__).resolve().parents[2]
STALL_S = 0.6
CHILD = """
import json, sys, time
from pathlib import Path
from tasks.services import open_load
url, phases, out, stop = json.loads(sys.argv[1])
with open_load.load(open_load.Target(url), phases, Path(out), 7) as end:
    if stop:
        time.sleep(1)  # of load
        end()
found = open_load.answers(Path(out))
print(json.dumps({"n": len(found.status), "errors": found.error_pct(), "latency": vars(found.latency_ms()),
                  "qps": found.achieved_qps(sum(seconds for seconds, _ in phases))}))
"""


class Server(BaseHTTPRequestHandler):
    """Stalls everyone for a while from the 20th request on; refuses every fifth request."""

    protocol_version = "HTTP/1.1"
    seeds: list[int] = []  # noqa: RUF012 -- shared by all requests on purpose
    gate = threading.Lock()

    def do_GET(self) -> None:
        seed = int(self.path.rsplit("=", 1)[1])
        with self.gate:
            self.seeds.append(seed)
            if len(self.seeds) == 20:
                time.sleep(STALL_S)
        self.send_response(500 if seed % 5 == 0 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Server.seeds.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/?seed={{seed}}"
    server.shutdown()
    server.server_close()


def offered(url: str, phases: list[tuple[float, float]], out: Path, stop: bool = False) -> dict[str, Any]:
    python = environments.provision(ROOT, "ray", "managed", print)
    done = subprocess.run(
        [str(python), "-c", CHILD, json.dumps([url, phases, str(out), stop])],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_arrivals_follow_the_phases_and_their_rates() -> None:
    due = arrivals([(10, 400), (10, 40)], seed=1)
    assert due == sorted(due)
    first = sum(moment < 10 for moment in due)
    assert first == pytest.approx(4000, rel=0.05)
    assert len(due) - first == pytest.approx(400, rel=0.15)
    assert arrivals([(10, 400)], seed=2) != arrivals([(10, 400)], seed=3)


@pytest.mark.slow
def test_requests_that_a_stall_made_wait_are_counted_as_slow(url: str, tmp_path: Path) -> None:
    """A closed loop would have sent one request in the stall; here all that were due in it are late."""
    found = offered(url, [(3.0, 100.0)], tmp_path / "out.npy")
    late_share = STALL_S / 3.0
    assert found["n"] == len(Server.seeds) == len(set(Server.seeds))
    assert found["latency"]["p95"] > 1000 * STALL_S * (late_share - 0.08) / late_share * 0.7
    assert found["errors"] == pytest.approx(20, abs=1)
    assert 0 < found["qps"] < 80 * 1.3


@pytest.mark.slow
def test_the_load_can_be_ended_early(url: str, tmp_path: Path) -> None:
    found = offered(url, [(120.0, 50.0)], tmp_path / "out.npy", stop=True)
    assert 0 < found["n"] < 120 * 50 / 2
