"""Containers on a real engine: builds, limits, read-only roots, and nothing left when it all ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.containers import building, container_run, gpus, packages
from tasks.services import base_image, engine

ROOT = Path(__file__).resolve().parents[2]
root_only = pytest.mark.skipif(os.geteuid() != 0 and not engine.answering(), reason="needs root or a running Docker")
SLEEP_S = f"864{os.getpid():07d}"  # of this test run's container, told from another's
Run = Callable[..., tuple[list[dict[str, Any]], Path]]
SMALL = "ARG BASE=debian:bookworm-slim\nFROM ${BASE}\nCOPY app.py /srv/app.py\nRUN python3 /srv/app.py\n"


def mounts(name: str) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines() if name in line]


@pytest.mark.slow
@root_only
def test_a_change_of_the_source_rebuilds_only_what_follows_it(run_kind: Run) -> None:
    params = {"variants": {"naive": {"file": "Dockerfile"}}, "source": "app.py", "start": ["python3", "/srv/app.py"]}
    steps = SMALL.replace("COPY", "RUN true\nCOPY")
    files = {"Dockerfile": steps, "app.py": "print(1)\n"}
    [row], _ = run_kind("image_build", {**params, "starts": 2}, [{"dockerfile": "naive"}], files, backend="docker")
    found = row["metrics"]
    assert found["cached_steps"] == 1
    assert found["image_size_mb"] > 100 > found["runtime_layer_mb"] >= 0
    assert found["layer_count"] >= 2
    assert found["cold_start_s"] > 0
    assert row["spread"]["cold_start_s"]["n"] == 2


@pytest.mark.slow
@root_only
def test_a_step_that_fails_names_its_line(run_kind: Run) -> None:
    params = {"variants": {"naive": {"file": "naive.Dockerfile"}}}
    files = {"naive.Dockerfile": SMALL + 'RUN echo ok \\\n && python3 -c "import torch"\n', "app.py": ""}
    with pytest.raises(AssertionError, match=r"naive\.Dockerfile:5: [^$]*No module named 'torch'"):
        run_kind("image_build", params, [{"dockerfile": "naive"}], files, backend="docker")


@pytest.mark.slow
@root_only
def test_limits_as_the_kernel_enforces_them(run_kind: Run) -> None:
    rows, out = run_kind(
        "container_run", {"program": "press"}, [{"limit": "memory:64m"}, {"limit": "pids:16"}], backend="docker"
    )
    memory, pids = (row["metrics"] for row in rows)
    assert (memory["exit_code"], memory["oom_killed_bool"], memory["fork_errno"]) == (137, 1, 0)
    assert memory["oom_kills"] == 1
    assert 30 < memory["peak_rss_mb"] < 80
    assert (pids["exit_code"], pids["oom_killed_bool"], pids["fork_errno"], pids["max_pids"]) == (1, 0, 11, 16)
    assert "oom_kill 1" in (out / "memory.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@root_only
def test_a_read_only_root_lets_only_volumes_be_written(run_kind: Run) -> None:
    kinds = ("rw", "ro", "ro+volume", "ro+tmpfs")
    rows, _ = run_kind("container_run", {"program": "train"}, [{"rootfs": kind} for kind in kinds], backend="docker")
    found = {row["point"]["rootfs"]: row["metrics"] for row in rows}
    assert [found[kind]["errno"] for kind in kinds] == [0, 30, 0, 0]
    assert [found[kind]["kept_bytes"] > 0 for kind in kinds] == [True, False, True, False]
    assert found["ro+tmpfs"]["log_bytes"] == found["rw"]["log_bytes"] > 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or bool(engine.answering()), reason="starts a dockerd of its own, as root")
def test_a_killed_owner_leaves_no_daemon_no_container_and_no_mount(tmp_path: Path) -> None:
    program = f"""if True:
        import pathlib, sys
        from tasks.services import base_image, engine
        scratch = pathlib.Path({str(tmp_path)!r})
        with engine.engine("docker", scratch) as found:
            base = base_image.provide(found.argv, lambda said: None, found.env)
            found.ask("run", "--detach", "--network=none", base.image, "sleep", "{SLEEP_S}")
            print(found.argv[-1], flush=True)
            sys.stdin.read()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout
    folder = Path(owner.stdout.readline().strip().removeprefix("unix://")).parent
    assert (folder / "socket").exists()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    subprocess.run(["tail", f"--pid={reaper_of(tmp_path)}", "-f", "/dev/null"], timeout=300, check=True)
    assert not folder.exists()
    assert not (tmp_path / "docker").exists()
    assert mounts(str(tmp_path)) == []
    assert SLEEP_S not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    engine.sweep()
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{engine.CGROUP}-{owner.pid}"))


def reaper_of(folder: Path) -> int:
    """The pid of the process that clears the engine's store up; that of a process long gone when it has ended."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            said = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"reaper.py" in said and f"{folder}/docker".encode() in said:
            return int(entry.name)
    return 2**22 - 1


def test_without_a_channel_the_variant_is_blocked(run_kind: Run) -> None:
    variants = {"micromamba": {"file": "Dockerfile", "channel": "conda.invalid"}}
    [row], _ = run_kind(
        "image_build", {"variants": variants}, [{"installer": "micromamba"}], {"Dockerfile": SMALL}, backend="docker"
    )
    assert row["metrics"] == {}
    assert "conda.invalid" in row["blocked"]


def test_gpus_are_asked_for_where_the_toolkit_can_give_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    listed = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5f)\n"
    done = subprocess.CompletedProcess([], 0, stdout=listed)
    monkeypatch.setattr(subprocess, "run", lambda *words, **how: done)
    assert gpus.present() == ["GPU 0: NVIDIA H100 80GB HBM3"]
    assert gpus.options("docker", gpus.present()) == ("--gpus", "all")
    assert gpus.options("docker", []) == ()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert gpus.options("docker", ["GPU 0: NVIDIA H100"]) == ()


LEGACY = """Step 1/3 : ARG BASE=x
Step 2/3 : FROM ${BASE}
 ---> 0123456789ab
Step 3/3 : RUN apt-get   install nothing
 ---> Running in 0123456789ab
E: Unable to locate package nothing
Removing intermediate container 0123456789ab
"""


@pytest.mark.parametrize(
    ("out", "err", "line", "said"),
    [
        (
            LEGACY,
            "The command '/bin/sh -c apt-get' returned a non-zero code: 100",
            3,
            "Unable to locate package",
        ),
        ("", "Error response from daemon: dockerfile parse error line 2: unknown instruction: FORM", 2, "FORM"),
        ("STEP 1/2: FROM x\nSTEP 2/2: RUN apt-get install nothing\n", "Error: building at STEP", 3, "building at STEP"),
    ],
)
def test_every_engines_message_finds_its_line(out: str, err: str, line: int, said: str, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("ARG BASE=x\nFROM ${BASE}\nRUN apt-get \\\n   install nothing\n", encoding="utf-8")
    error = building.failure(out, err, file)
    assert isinstance(error, UserError)
    assert error.where == f"Dockerfile:{line}"
    assert said in error.what


def test_wheels_and_packages_come_through_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    with packages.serving(wheels) as served:
        ask = urllib.request.build_opener(urllib.request.ProxyHandler({"http": served.proxy})).open
        links = served.build_args["PIP_FIND_LINKS"]
        assert b"a-1-py3-none-any.whl" in ask(links).read()
        assert ask(f"{links}a-1-py3-none-any.whl").read() == b"wheel"
        with pytest.raises(urllib.error.HTTPError, match="502"):
            ask("http://nowhere.invalid/x.deb")


def test_the_outcome_is_read_from_either_version_of_control_groups() -> None:
    said = json.dumps({"peak_rss_mb": 60.5, "max_pids": 3, "fork_errno": 0})
    for counted in ("memory/memory.oom_control oom_kill 1", "memory.events oom_kill 1"):
        found = container_run.outcome(
            f"{said}\ncgroup /sys/fs/cgroup/{counted}\n", {"ExitCode": 137, "OOMKilled": True}
        )
        assert (found["oom_kills"], found["exit_code"], found["peak_rss_mb"]) == (1, 137, 60.5)


def test_the_cache_is_one_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with base_image.locked("store") as home:
        assert home == tmp_path / "infra90" / "containers"
        held = subprocess.run(["flock", "--nonblock", str(home / "store.lock"), "true"])
        assert held.returncode == 1
