"""Kind `container_run`: what a container may write with a read-only root, and what the kernel does at its limits."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks import api
from tasks.containers.programs import press, train
from tasks.services import base_image
from tasks.services import engine as engines

METRICS = {
    "write_ok_bool": "whether the training wrote its log and its temporary file",
    "errno": "of the write that was refused (30 is EROFS), 0 when none was",
    "log_bytes": "size of the training's log as the container saw it",
    "kept_bytes": "size of that log that is still there when the container has ended",
    "exit_code": "of the container: 137 is 128 + SIGKILL",
    "oom_killed_bool": "whether the engine says that the kernel killed it for memory",
    "peak_rss_mb": "largest resident set of the program before it ended (VmHWM, 1 MB = 10^6 bytes)",
    "max_pids": "most tasks at once in the container, as the kernel counted them",
    "fork_errno": "of the fork that was refused (11 is EAGAIN), 0 when none was",
    "oom_kills": "kills for memory that the container's control group counted",
    "forks_refused": "forks that its control group refused",
}
LOGS = "/var/log/train"
TMPFS = ("--tmpfs", f"{LOGS}:size=16m", "--tmpfs", "/tmp:size=16m")
# The shell survives what happens to the program and reads, with builtins alone, what the kernel counted.
AROUND = """python3 -c "$1" "$2"; code=$?
for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control \
            /sys/fs/cgroup/pids.events /sys/fs/cgroup/pids/pids.events; do
  [ -r "$file" ] && while read -r name value; do echo "cgroup $file $name $value"; done < "$file"
done
exit $code"""


class Params(api.Params):
    """`program` is `train` (with the axis `rootfs`) or `press` (with the axis `limit`)."""

    program: Literal["train", "press"]


class Point(api.Params):
    rootfs: Literal["rw", "ro", "ro+volume", "ro+tmpfs", ""] = ""
    limit: str = Field(default="", pattern=r"^(memory:\d+[kmg]|pids:\d+)?$")


def needs(params: Params) -> list[api.Needs]:
    return engines.needs()


def run(params: Params, ctx: api.Context) -> None:
    with engines.engine(ctx.backend, ctx.scratch) as engine:
        base = base_image.provide(engine.argv, ctx.say, engine.env)
        ctx.say(f"{engine.name} {engine.version}, base image by {base.origin}")
        for point in ctx.points:
            if params.program == "train":
                trained(point, engine, base.image, ctx)
            else:
                pressed(point, engine, base.image, ctx)


@contextmanager
def container(engine: engines.Engine, *words: str) -> Iterator[tuple[str, subprocess.CompletedProcess[str]]]:
    """Run a container without a network to its end; its name and what it printed. It is removed with the block."""
    name = f"infra90-{uuid.uuid4().hex[:12]}"
    try:
        yield name, engine.run("run", "--name", name, "--network=none", *words, limit_s=180)
    finally:
        engine.run("rm", "--force", "--volumes", name)


def mounts(rootfs: str, logs: Path) -> tuple[str, ...]:
    """The options of `run` for a kind of root; `logs` and its neighbour are the folders behind the volumes."""
    if rootfs == "rw":
        return ()
    if rootfs == "ro+tmpfs":
        return ("--read-only", *TMPFS)
    if rootfs == "ro+volume":
        temporary = logs.with_name("tmp")
        for folder in (logs, temporary):
            folder.mkdir(parents=True)
        return ("--read-only", "--volume", f"{logs}:{LOGS}", "--volume", f"{temporary}:/tmp")
    return ("--read-only",)


def trained(point: Point, engine: engines.Engine, image: str, ctx: api.Context) -> None:
    logs = ctx.scratch / uuid.uuid4().hex[:8] / "logs"
    program = inspect.getsource(train)
    with container(engine, *mounts(point.rootfs, logs), image, "python3", "-c", program) as (name, done):
        try:
            said = json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise api.UserError(f"the container said nothing: {done.stderr.strip()[-400:]}") from None
        kept = surviving(engine, name, ctx.scratch / f"{name}.log")
    why = f"{point.rootfs}: {said['strerror']}: {said['file']}" if said["errno"] else ""
    metrics = {"write_ok_bool": not said["errno"], "errno": said["errno"], "log_bytes": said["log_bytes"]}
    ctx.record(point, {**metrics, "kept_bytes": kept}, note=why)


def surviving(engine: engines.Engine, name: str, target: Path) -> int:
    """The size of the log as `docker cp` finds it in the stopped container (volumes are looked into, tmpfs is gone)."""
    engine.run("cp", f"{name}:{LOGS}/train.log", str(target))
    return target.stat().st_size if target.exists() else 0


def pressed(point: Point, engine: engines.Engine, image: str, ctx: api.Context) -> None:
    what, _, most = point.limit.partition(":")
    options = ("--memory", most, "--memory-swap", most) if what == "memory" else ("--pids-limit", most)
    program = inspect.getsource(press)
    with container(engine, *options, image, "sh", "-c", AROUND, "sh", program, what) as (name, done):
        [state] = json.loads(engine.ask("inspect", "--format", "[{{json .State}}]", name))
    (ctx.out / f"{what}.txt").write_text(tail(done), encoding="utf-8")
    ctx.record(point, outcome(done.stdout, state), note=f"{point.limit}: {last_words(done)}")


def outcome(stdout: str, state: dict[str, Any]) -> dict[str, float]:
    """The metrics from what the program said before its end, what the control group counted, the container's state."""
    said = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
    if not said:
        raise api.UserError(f"the program was gone before it said anything (exit code {state['ExitCode']})")
    counted = dict(re.findall(r"^cgroup \S+/(\w+\.\w+ \w+) (\d+)$", stdout, flags=re.M))
    kills = counted.get("memory.oom_control oom_kill") or counted.get("memory.events oom_kill") or 0
    return {
        "exit_code": state["ExitCode"], "oom_killed_bool": bool(state["OOMKilled"]), "oom_kills": int(kills),
        "peak_rss_mb": said[-1]["peak_rss_mb"], "max_pids": max(line["max_pids"] for line in said),
        "fork_errno": said[-1]["fork_errno"], "forks_refused": int(counted.get("pids.events max", 0)),
    }  # fmt: skip


def tail(done: subprocess.CompletedProcess[str]) -> str:
    """What is kept of a container's words: the program's last figures, the control group's counters, its errors."""
    figures = [line for line in done.stdout.splitlines() if line.startswith("{")][-3:]
    counted = [line for line in done.stdout.splitlines() if line.startswith("cgroup ")]
    return "\n".join([*figures, *counted, done.stderr.strip()]) + "\n"


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else "nothing on stderr"
