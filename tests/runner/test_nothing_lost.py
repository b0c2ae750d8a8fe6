"""Kills, signals, a full disk, many at once: no finished point is lost, nothing unfinished is shown as passed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from conftest import Project
from processes import kill, rows, until

from runner import glance

pytestmark = pytest.mark.slow
SEED = 90
EXPERIMENTS, POINTS = 6, 4


@pytest.fixture
def fast(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """One day of quick experiments, each with a real server behind it; MLflow refuses, so that no run waits for it."""
    monkeypatch.setenv("XDG_CACHE_HOME", project.env["XDG_CACHE_HOME"])
    project.offline()
    (project.root / "plans/week01/day02/day.yaml").unlink()
    (project.root / "plans/week01/day02").rmdir()
    write(project)
    yield project
    kill(processes.of(project))


def write(project: Project, seconds: float = 0.02, service: bool = True, points: int = POINTS) -> None:
    """The day, with another measurement in it when `seconds` changes."""
    params = {"seconds": seconds, "service": service}
    matrix = {"n": list(range(points))}
    ids = (f"try-{number}" for number in range(EXPERIMENTS))
    project.write_day(1, project.day(1, {i: project.experiment(params=params, matrix=matrix) for i in ids}))


def shown(project: Project) -> dict[str, dict[str, Any]]:
    """What `run status` shows of each experiment."""
    day = glance.of(project.root, "week01")["days"][0]
    return {experiment["id"]: experiment for experiment in day["experiments"]}


def assert_honest(project: Project) -> None:
    """What is shown as passed has a whole record, and a row for every point of it."""
    have = rows(project)
    for name, experiment in shown(project).items():
        if experiment["status"] == "passed":
            record = project.record(name)
            assert record["status"] == "passed"
            assert record["points"] == {"planned": POINTS, "measured": POINTS}
            assert all((name, record["spec"], json.dumps({"n": n})) in have for n in range(POINTS))


def assert_gone(project: Project) -> None:
    """No process of the project is left, so no port is either."""
    until(lambda: not processes.of(project), "every process of the project to end")


def finish(project: Project) -> None:
    """The next run goes on to the end, and no point was measured twice."""
    ended = project.run("plan=week01")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {experiment["status"] for experiment in shown(project).values()} == {"passed"}
    assert_honest(project)
    assert set(rows(project).values()) == {1}, "a finished point was measured again"
    assert_gone(project)


def await_moment(project: Project, started: subprocess.Popen[str], turn: int, draw: random.Random) -> None:
    """Of five kills one comes at any time from the start, two from the first experiment on, two soon after a point."""
    before = rows(project)
    if turn % 5 > 2:
        until(lambda: started.poll() is not None or rows(project) != before, "the next point")
    elif turn % 5:
        until(lambda: started.poll() is not None or started.pid in owners(project), "the first experiment")
    time.sleep(draw.uniform(0, 0.3 if turn % 5 > 2 else 1.5))


def test_the_runner_killed_at_any_moment(fast: Project) -> None:
    """25 rounds: at any moment of a run, its start and its end included."""
    draw, halfway = random.Random(SEED), 0
    print(f"seed {SEED}")
    write(fast, seconds=0.15)
    for turn in range(25):
        if {experiment["status"] for experiment in shown(fast).values()} == {"passed"}:
            write(fast, seconds=0.15 + turn / 1e4)  # everything is stale: there is something to do again
        started = fast.start("plan=week01")
        await_moment(fast, started, turn, draw)
        before = rows(fast)
        started.kill()
        started.communicate()
        assert_gone(fast)
        now = rows(fast)
        assert before <= now, f"round {turn}: a finished point was lost"
        assert_honest(fast)
        per_run = Counter(key[:2] for key in now)
        halfway += started.returncode == -signal.SIGKILL and any(count < POINTS for count in per_run.values())
    finish(fast)
    assert halfway > 3, "too few kills came between two points of an experiment: draw other moments"
    print(f"{halfway} of 25 kills came between two points")


def owners(project: Project) -> set[int]:
    """The runners that have marked an experiment as running."""
    return {json.loads(text)["owner"]["pid"] for text in processes.markers(project)}


@pytest.mark.parametrize(
    ("victim", "rounds_wanted"), [(processes.workers, 15), (processes.services, 15), (processes.nurseries, 5)],
    ids=["worker", "service", "nursery"],
)  # fmt: skip
def test_a_part_killed_at_any_moment(fast: Project, victim: Callable[[Project], list[int]], rounds_wanted: int) -> None:
    """The experiment fails and says why, the others go on, the next run measures the rest."""
    draw, killed, turn = random.Random(SEED), 0, 0
    print(f"seed {SEED}")
    while killed < rounds_wanted:
        turn += 1
        write(fast, seconds=0.05 + turn / 1e4)
        started, hit = fast.start("plan=week01"), 0
        while started.poll() is None:
            if pids := victim(fast):
                time.sleep(draw.uniform(0, 0.2))
                hit += bool(kill(pids))
                until(lambda old=set(pids): not old & set(victim(fast)), "the killed one to be gone")  # type: ignore[misc]
            time.sleep(0.02)
        output = started.communicate()[0]
        killed += hit
        before, states = rows(fast), shown(fast)
        failed = [name for name, experiment in states.items() if experiment["status"] == "failed"]
        assert started.returncode == (1 if failed else 0), output
        assert_honest(fast)
        assert_gone(fast)
        for name in failed:
            reason = states[name]["reason"]
            assert ("killed by SIGKILL" in reason) if victim is processes.workers else reason, reason
            assert f"run plan=day01 experiment={name}" in output
        finish(fast)
        assert before <= rows(fast)
    print(f"{killed} rounds in {turn} runs")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_services_within_five_seconds_and_exits_130(fast: Project, number: signal.Signals) -> None:
    """A second and a third try are for a machine that something else held up just then."""
    write(fast, seconds=2)
    assert any(seconds_to_stop(fast, number) < 5 for _ in range(3))
    assert fast.run("plan=week01", "experiment=try-0").returncode == 0
    assert set(rows(fast).values()) == {1}


def seconds_to_stop(project: Project, number: signal.Signals) -> float:
    before, started = rows(project), project.start("plan=week01")
    until(lambda: rows(project) != before, "the next point")
    assert processes.services(project)
    started.send_signal(number)
    began = time.monotonic()
    output = started.communicate(timeout=60)[0]
    seconds = time.monotonic() - began
    assert started.returncode == 130
    assert "interrupted: what was measured is kept; the same command goes on from there" in output
    assert "Traceback" not in output
    assert_gone(project)
    assert_honest(project)
    return seconds


PROGRAM = "print('up', flush=True); import runpy; runpy.run_module('runner', run_name='__main__')"


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.25, 0.55, 0.85])
def test_a_signal_while_starting_is_no_traceback(fast: Project, delay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from when Python itself is up: a signal before that is not the program's to answer."""
    monkeypatch.setattr(fast, "argv", lambda *words: [sys.executable, "-c", PROGRAM, *words])
    started = fast.start("plan=week01")
    assert started.stdout
    assert started.stdout.readline() == "up\n"
    time.sleep(delay)
    started.send_signal(signal.SIGINT)
    output = started.communicate(timeout=60)[0]
    assert started.returncode in (130, -signal.SIGINT), output
    if started.returncode == 130:
        assert "Traceback" not in output
    assert_gone(fast)


def test_a_second_run_is_told_who_holds_the_week_or_waits(fast: Project) -> None:
    write(fast, seconds=0.3)
    first = fast.start("plan=week01")
    until(lambda: rows(fast), "a first point")
    third = fast.start("plan=week01", "--wait")  # beside the second, so that the first is still at work for both
    second = fast.run("plan=week01")
    assert second.returncode == 2
    assert f"week01 is being run by pid {first.pid} on {os.uname().nodename} since 2" in second.stderr
    assert "wait=true" in second.stderr
    assert first.poll() is None
    said = third.communicate(timeout=120)[0]
    assert third.returncode == 0
    assert f"waiting: week01 is being run by pid {first.pid}" in said
    assert first.communicate()[0]
    assert first.returncode == 0
    assert set(rows(fast).values()) == {1}


def test_a_killed_owner_blocks_nobody_and_leaves_nobody(fast: Project) -> None:
    write(fast, seconds=60)
    first = fast.start("plan=week01")
    until(lambda: processes.services(fast), "the server")
    os.kill(first.pid, signal.SIGKILL)  # not reaped yet: a zombie owns nothing
    until(lambda: not processes.of(fast), "its worker and its server to follow it")
    assert shown(fast)["try-0"]["status"] == "failed"
    assert "interrupted" in shown(fast)["try-0"]["reason"]
    write(fast)
    second = fast.run("plan=week01")
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"the run of pid {first.pid} was interrupted" in second.stdout
    first.communicate()


@pytest.fixture
def small_disk(fast: Project) -> Iterator[Path]:
    """The project's artifacts on a disk of one megabyte."""
    place = fast.root / "artifacts"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("left", [0, 6_000, 20_000])
def test_a_full_disk(fast: Project, small_disk: Path, left: int) -> None:
    """Full at the start, in the middle of the rows, or at a record: said clearly, and what was recorded stays."""
    assert fast.run("plan=week01", "experiment=try-0").returncode == 0
    kept = {file: file.read_bytes() for file in fast.folder("try-0").iterdir() if file.is_file()}
    ballast = small_disk / "ballast"
    fill(ballast, left)
    ended = fast.run("plan=week01")
    said = ended.stdout + ended.stderr
    assert ended.returncode == 1, said
    assert "the disk is full: " in said or "No space left on device" in said
    assert "free some space and run the same command again" in said
    assert "Traceback" not in said
    assert all(file.read_bytes() == content for file, content in kept.items())
    assert shown(fast)["try-0"]["status"] == "passed"
    assert_honest(fast)
    assert_gone(fast)
    assert fast.run("status").returncode == 0
    ballast.unlink()
    finish(fast)


def fill(file: Path, left: int) -> None:
    """Take all the space of the file's disk but `left` bytes (in whole pages)."""
    free = os.statvfs(file.parent).f_bavail * os.statvfs(file.parent).f_bsize
    file.write_bytes(b"x" * max(0, free - left))


def test_eight_sweep_jobs_at_once_lose_no_row(fast: Project) -> None:
    write(fast, service=False)
    key = "plan.days.day01.experiments.try-0.matrix.n"
    lists = ",".join(f"[{n},{n + 100}]" for n in range(1, 9))
    swept = fast.run("-m", "plan=week01", "hydra/launcher=joblib", "hydra.launcher.n_jobs=8", f"{key}={lists}")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    records = [json.loads(file.read_text()) for file in fast.folder("x").parent.glob("try-0+*/record.json")]
    assert sorted(record["stanza"]["matrix"]["n"] for record in records) == [[n, n + 100] for n in range(1, 9)]
    assert {record["status"] for record in records} == {"passed"}
    have = rows(fast)
    assert set(have.values()) == {1}
    for record in records:
        name = f"try-0+{record['variant']}"
        assert {json.loads(point)["n"] for folder, _, point in have if folder == name} == {
            *record["stanza"]["matrix"]["n"]
        }
    assert not {name for name, *_ in have if "+" not in name}  # a sweep measures what it varies
    both = fast.run("-m", "plan=week01", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "lang=en,zh")
    assert both.returncode == 0, both.stdout + both.stderr
    have = rows(fast)
    assert set(have.values()) == {1}
    assert {name for name, *_ in have if "+" not in name} == {f"try-{n}" for n in range(EXPERIMENTS)}
    assert_gone(fast)
