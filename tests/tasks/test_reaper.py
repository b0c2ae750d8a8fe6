"""Nothing that works in a folder outlives its owner, whatever it did to hide."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tasks.services import reaper

DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
kept = open(sys.argv[1] + "/log", "w")
while True:
    time.sleep(60)
"""
OWNER = """
import subprocess, sys, time
from pathlib import Path
from tasks.services.reaper import reaping
with reaping(Path(sys.argv[1])):
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], check=True)
    print("ready", flush=True)
    time.sleep(60)
"""


def gone(folder: Path, timeout_s: float = 120) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not reaper.workers(str(folder), {os.getpid()}) and not folder.exists():
            return True
        time.sleep(0.05)
    return False


def test_a_daemon_ends_with_the_block(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with reaper.reaping(home):
        subprocess.run([sys.executable, "-c", DAEMON, str(home)], check=True)
        assert reaper.workers(str(home), {os.getpid()})
    assert gone(home, timeout_s=0.2)  # it was waited for: the first look finds nothing


def test_a_daemon_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(home), DAEMON], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        owner.send_signal(signal.SIGKILL)
    assert gone(home)


def test_other_processes_are_left_alone(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=other, stdout=(other / "log").open("w")) as bystander:
        with reaper.reaping(home):
            pass
        assert bystander.poll() is None
        bystander.kill()
