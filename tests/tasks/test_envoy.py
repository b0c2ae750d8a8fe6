"""A real Envoy: what it refuses is said in its own words, and what it is told live is in force at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner import environments
from tasks.services import envoy, envoy_config, process, supervisor
from tasks.services.envoy_config import Route

ROOT = Path(__file__).resolve().parents[2]
IN_FRONT = """
import json, sys, urllib.error
from pathlib import Path
from urllib.request import urlopen
from tasks.api import UserError
from tasks.services import envoy, upstream
from tasks.services.envoy_config import Route
folder = Path(sys.argv[1])
def ask(proxy):
    try:
        with urlopen(f"http://{proxy.address}/infer?seed=1", timeout=10) as answer:
            return answer.headers["x-version"]
    except urllib.error.HTTPError as error:
        return error.code
with upstream.serve("v1", 8, folder / "1.log") as one, upstream.serve("v2", 16, folder / "2.log") as two:
    with envoy.serve({"a": [one.port], "b": [two.port]}, Route({"a": 100, "b": 0}), folder / "envoy") as proxy:
        said = [ask(proxy)]
        proxy.route(Route({"a": 0, "b": 100}))
        said.append(ask(proxy))
        try:
            proxy.route(Route({"a": -1, "b": 101}))
        except UserError as error:
            said.append(str(error))
        said.append(ask(proxy))
        proxy.endpoints("b", [])
        said.append(ask(proxy))
        proxy.endpoints("b", [one.port])
        said.append(ask(proxy))
        proxy.route(Route({"a": 100, "b": 0}, limit_rps=0.02))
        said.append([ask(proxy) for _ in range(4)].count(429))
        pid = proxy.pid
    said.append(Path(f"/proc/{pid}").exists())
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def python() -> Path:
    return environments.provision(ROOT, "traffic", "managed", print)


def inside(python: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [str(python), "-c", program, *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_routes_endpoints_and_limits_change_live(python: Path, tmp_path: Path) -> None:
    done = inside(python, IN_FRONT, str(tmp_path))
    assert done.returncode == 0, done.stderr
    before, after, refused, still, nobody, other, limited, lives = json.loads(done.stdout)
    assert (before, after) == ("v1", "v2")
    assert refused.startswith("routes.json:")
    assert "weight" in refused
    assert still == "v2"  # the former route stays in force
    assert nobody == 503
    assert other == "v1"
    assert limited >= 2  # a token in 50 s
    assert not lives


@pytest.mark.slow
def test_a_configuration_that_envoy_refuses_is_shown_with_its_line(python: Path, tmp_path: Path) -> None:
    boot = tmp_path / "boot.json"
    boot.write_text('{\n "admin": {\n  "addres": 3\n }\n}', encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from tasks.services import envoy; envoy.validate(Path(sys.argv[1]))"
    )
    said = inside(python, program, str(boot)).stderr
    assert "boot.json:3: error initializing configuration" in said
    assert "addres" in said


def test_a_refusal_without_a_line_names_the_file(tmp_path: Path) -> None:
    log = "[2026][1][warning][config] [x.cc:81] Filesystem config update rejected: Sum of weights must be greater"
    said = str(envoy.refusal(log, tmp_path / "routes.json", "nothing"))
    assert said == "routes.json: Filesystem config update rejected: Sum of weights must be greater"


def test_a_limit_of_any_rate_is_one_that_envoy_accepts() -> None:
    """A bucket must not be filled more often than every 50 ms, and not faster than the rate."""
    for rate in (0.5, 7.0, 392.5, 5000.0):
        bucket = envoy_config.limit(rate, 1)["token_bucket"]
        interval = float(bucket["fill_interval"].removesuffix("s"))
        assert interval >= 0.05 - 1e-9
        assert bucket["tokens_per_fill"] / interval == pytest.approx(rate, rel=1e-3)


def test_retries_go_to_another_server() -> None:
    action = envoy_config.routes(Route({"a": 100}, retries=2))["resources"][0]["virtual_hosts"][0]["routes"][0]["route"]
    assert action["retry_policy"]["num_retries"] == 2
    assert action["retry_policy"]["retry_host_predicate"]


@dataclass(frozen=True)
class Sleeper:
    pid: int


@contextmanager
def sleeper(folder: Path) -> Iterator[Sleeper]:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with process.serve(argv, log=folder / "log", ready=lambda: True) as child:
        yield Sleeper(child.pid)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_what_was_killed_is_started_again_and_gone_in_the_end(tmp_path: Path) -> None:
    told: list[int] = []
    with supervisor.keeping(lambda: sleeper(tmp_path), lambda: told.append(1)) as keeper:
        first = wait_for(keeper.alive)
        os.kill(first.pid, signal.SIGKILL)
        second = wait_for(lambda: (now := keeper.alive()) and now.pid != first.pid and now)
    assert len(told) >= 3  # up, gone, up
    assert not Path(f"/proc/{second.pid}").exists()


def test_what_cannot_start_again_is_told_to_whoever_measures(tmp_path: Path) -> None:
    starts = [sleeper(tmp_path)]
    with supervisor.keeping(lambda: starts.pop()) as keeper:
        os.kill(wait_for(keeper.alive).pid, signal.SIGKILL)
        with pytest.raises(IndexError):
            wait_for(lambda: keeper.alive() and None)
