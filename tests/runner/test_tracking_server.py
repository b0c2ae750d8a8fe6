"""Sending to a real MLflow server that is stopped and killed half-way, and the UI over a real store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tracking_store import assert_exactly_once
from tracking_tree import make_deliverables, make_record

from runner.tracking import TrackingSettings, sync
from runner.tracking.ui import LEAN, healthy
from tasks.services.process import free_port, serve

pytestmark = pytest.mark.slow
SILENT_S, DEADLINE_S = 6, 10  # twice what a run waits: a busy machine makes a server slow that does not hang


@contextmanager
def mlflow_server(home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A tracking server that keeps runs and artifacts, as a team would have one."""
    argv = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{home}/server.db",
        "--artifacts-destination", str(home / "files"), "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    ready = f"http://127.0.0.1:{port}"
    with serve(argv, log=home / "log.txt", ready=lambda: healthy(ready), env=LEAN, timeout_s=120, stop_s=1) as server:
        yield server


class AtFirstSent:
    """Does something to the server as soon as the first record is sent, and remembers when."""

    def __init__(self, server: subprocess.Popen[bytes], number: signal.Signals) -> None:
        self.server, self.number, self.at = server, number, 0.0

    def __call__(self, line: str) -> None:
        if not self.at and "1/" in line:
            os.killpg(self.server.pid, self.number)
            self.at = time.monotonic()


def make_records(artifacts: Path, first: int, last: int) -> None:
    for number in range(first, last):
        make_record(artifacts, f"experiment-{number}", points=(1, 2), samples=3)


def test_a_server_that_hangs_or_dies_half_way_costs_its_deadline_and_gets_everything_once(tmp_path: Path) -> None:
    artifacts, home, port = tmp_path / "artifacts", tmp_path / "server", free_port()
    home.mkdir()
    settings = TrackingSettings(f"http://127.0.0.1:{port}", request_timeout_s=SILENT_S)
    make_deliverables(artifacts)
    make_records(artifacts, 0, 1)
    with mlflow_server(home, port) as server:
        assert sync(artifacts, settings, print).left == 0
        make_records(artifacts, 1, 5)
        hang = AtFirstSent(server, signal.SIGSTOP)
        assert sync(artifacts, settings, hang, DEADLINE_S).left > 0
        assert hang.at
        assert time.monotonic() - hang.at < DEADLINE_S
        os.killpg(server.pid, signal.SIGCONT)
        death = AtFirstSent(server, signal.SIGKILL)
        assert sync(artifacts, settings, death, DEADLINE_S).left > 0
        assert death.at
        assert time.monotonic() - death.at < DEADLINE_S
    make_records(artifacts, 5, 6)
    with mlflow_server(home, port):
        assert sync(artifacts, settings, print).left == 0
        assert_exactly_once(settings.uri, artifacts)


UI = """
import pathlib, sys
from runner.tracking import TrackingSettings, ui
say = lambda line: print(line, flush=True)
sys.exit(ui(pathlib.Path(sys.argv[1]), TrackingSettings(), int(sys.argv[2]), say))
"""


@contextmanager
def opened_ui(artifacts: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`ui` in a process of its own, with the URL that it told."""
    child = subprocess.Popen([sys.executable, "-c", UI, str(artifacts), str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child, next(line.split()[1] for line in child.stdout if line.startswith("MLflow: "))
    finally:
        child.kill()
        child.wait()


def ask_to_stop(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 0


def murder(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()


@pytest.mark.parametrize("end", [ask_to_stop, murder])
def test_the_ui_shows_the_experiment_and_leaves_no_process(
    tmp_path: Path, end: Callable[[subprocess.Popen[str]], None]
) -> None:
    make_record(tmp_path, day="four_weeks/days-1-3")
    assert sync(tmp_path, TrackingSettings(), print).left == 0
    with opened_ui(tmp_path, free_port()) as (child, url):
        assert "/#/experiments/1/runs" in url
        with urllib.request.urlopen(url.split("#")[0], timeout=60) as page:
            assert b"MLflow" in page.read()
        servers = psutil.Process(child.pid).children(recursive=True)
        assert servers
        end(child)
        _, alive = psutil.wait_procs(servers, timeout=60)
        assert not alive
