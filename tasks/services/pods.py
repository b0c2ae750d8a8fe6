"""Kubernetes Pods without a cluster: `podman play kube` runs a Pod's containers under its limits.

There is no API server that would refuse a Pod, no scheduler, and no kubelet that would evict it.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.services import base_image

PAUSE = "localhost/infra90-pause:1"  # holds a Pod's namespaces; podman's own needs catatonit or a registry
STEP_S = 120
# Where systemd does not run, podman can neither ask it for cgroups nor write its journal; crun fails there too.
PLAIN = """runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
LIMITS = '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]\n'


@dataclass(frozen=True)
class Pods:
    """A podman that can play Pods; they run `image`, have no network and are named as the caller wishes."""

    image: str
    settings: Path

    def podman(self, *words: str, stdin: str = "") -> str:
        """Output of a podman command; UserError with its message when it fails."""
        env = {**os.environ, "CONTAINERS_CONF": str(self.settings)}
        argv = ["podman", *words]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, input=stdin, timeout=STEP_S, check=False)
        if done.returncode:
            raise UserError(done.stderr.strip() or done.stdout.strip(), where=" ".join(argv[:3]))
        return done.stdout

    @contextmanager
    def played(self, pod: Mapping[str, Any], *, start: bool = True) -> Iterator[None]:
        """The Pod until the block ends. Raises UserError in podman's words when it refuses the Pod."""
        name = pod["metadata"]["name"]
        try:
            self.podman("play", "kube", "--network=none", f"--start={str(start).lower()}", "-", stdin=json.dumps(pod))
            yield
        finally:
            with suppress(UserError):  # a Pod that was refused, or not started, has nothing to kill
                self.podman("pod", "kill", name)  # its first processes ignore SIGTERM: `rm` alone would wait 10 s
            self.podman("pod", "rm", "--force", "--ignore", name)

    def refusal(self, pod: Mapping[str, Any]) -> str:
        """Why podman does not take the Pod; "" when it does. Nothing is started."""
        try:
            with self.played(pod, start=False):
                return ""
        except UserError as error:
            return error.what

    def pid(self, container: str) -> int:
        """The process on this machine that is a container's first."""
        return int(self.podman("inspect", container, "--format={{.State.Pid}}"))

    def exit_code(self, container: str) -> int:
        """How a container ended, which may be told a moment after its process did."""
        return int(self.podman("wait", container))

    def said(self, container: str) -> str:
        """What a container wrote to its standard output so far."""
        return self.podman("logs", container)


@contextmanager
def pods(scratch: Path, say: Callable[[str], None]) -> Iterator[Pods]:
    """Podman with the base image and a pause image of it; both stay in its store for the next run."""
    settings = scratch / "containers.conf"
    systemd = Path("/run/systemd/system").is_dir()
    text = f'[engine]\ninfra_image = "{PAUSE}"\n{"" if systemd else PLAIN + LIMITS}'
    settings.write_text(text, encoding="utf-8")
    engine = Pods(base_image.IMAGE, settings)
    with base_image.locked("podman"):
        if not has(engine, engine.image):
            base_image.provide(["podman"], say, {"CONTAINERS_CONF": str(settings)})
        if not has(engine, PAUSE):
            build = f'FROM {engine.image}\nCMD ["sleep", "infinity"]\n'
            engine.podman("build", "--quiet", f"--tag={PAUSE}", "--file=-", str(scratch), stdin=build)
    yield engine


def has(engine: Pods, image: str) -> bool:
    try:
        engine.podman("image", "exists", image)
    except UserError:
        return False
    return True


def first_ended(pids: Sequence[int], timeout_s: float) -> int:
    """Wait until one of the processes has ended; its place in the list. Raises UserError when it takes longer."""
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for place, pid in enumerate(pids):
            handle = os.pidfd_open(pid)
            stack.callback(os.close, handle)
            waiting.register(handle, selectors.EVENT_READ, place)
        if ended := waiting.select(timeout_s):
            return int(ended[0][0].data)
    raise UserError(f"the containers still ran after {timeout_s:.0f} s")


def shared_limit(pid: int, size: int) -> None:
    """Put all containers of a Pod under one memory limit (bytes): that of the cgroup above a container's own.

    Raises UserError where this process may not write there.
    """
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        above = path.rsplit("/", 1)[0].lstrip("/")
        if controllers == "memory":
            target = Path("/sys/fs/cgroup/memory") / above / "memory.limit_in_bytes"
            break
        if not controllers:
            target = Path("/sys/fs/cgroup") / above / "memory.max"
    try:
        target.write_text(str(size), encoding="ascii")
    except OSError as error:
        raise UserError(f"cannot set a Pod's memory limit: {error.strerror}", where=str(target)) from error
