"""A container engine: the Docker that answers here, else a dockerd of our own on a private socket, else podman.

Our own dockerd lives in a PID and a mount namespace of its own, as its first process. When it goes, or when whoever
started it goes, even by SIGKILL, the kernel ends every shim and container with it and undoes every mount.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tasks import api
from tasks.services import process, reaper

CGROUP = "infra90"
OWN = ("dockerd", "docker", "debootstrap", "unshare", "setpriv")
LEGACY = {"DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}  # the builder that every engine has, without a plugin


@dataclass(frozen=True)
class Engine:
    """`argv` starts every command of the engine's client. `limit_s` is what a command may take."""

    name: str  # docker or podman
    argv: tuple[str, ...]
    version: str
    limit_s: float = 900
    own: bool = False  # started by us: nobody else uses it
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str, stdin: str = "", limit_s: float = 0) -> subprocess.CompletedProcess[str]:
        """One command; stdout and stderr come back as text. Raises UserError when it takes too long."""
        argv, limit = [*self.argv, *words], limit_s or self.limit_s
        surroundings = {**os.environ, **self.env}
        try:
            return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=limit, env=surroundings)
        except subprocess.TimeoutExpired:
            raise api.UserError(f"{self.name} {words[0]} took longer than {limit:.0f} s") from None

    def ask(self, *words: str, stdin: str = "") -> str:
        """The stdout of a command that must succeed, else UserError with the engine's own words."""
        done = self.run(*words, stdin=stdin)
        if done.returncode:
            raise api.UserError(f"{self.name} {words[0]} failed: {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout.strip()


def needs(backend: str = "", *, memory_gb: float = 1.0) -> list[api.Needs]:
    """Docker (one that answers, or what our own needs), then podman. `backend` adds words to both names."""
    own = () if answering() or os.geteuid() else OWN
    docker = api.Needs(backend=f"docker{backend}", binaries=own or ("docker",), memory_gb=memory_gb)
    podman = api.Needs(backend=f"podman{backend}", binaries=("podman",), memory_gb=memory_gb)
    return [podman, docker] if os.geteuid() and not answering() else [docker, podman]


def answering() -> str:
    """The version of the Docker that the client reaches as it is configured here; empty when there is none."""
    host = os.environ.get("DOCKER_HOST", "")
    if not shutil.which("docker") or not (host or Path("/var/run/docker.sock").exists()):
        return ""
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=5
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if not done.returncode else ""


@contextmanager
def engine(backend: str, scratch: Path, store: Path | None = None) -> Iterator[Engine]:
    """An engine to work with. `store` keeps our own dockerd's images for the next time; by default they go with it."""
    if backend.startswith("podman"):
        yield Engine("podman", ("podman",), _version(("podman", "version", "--format", "{{.Client.Version}}")))
    elif version := answering():
        yield Engine("docker", ("docker",), version, env=LEGACY)
    else:
        with _own(scratch, store) as started:
            yield started


@contextmanager
def _own(scratch: Path, store: Path | None) -> Iterator[Engine]:
    if os.geteuid():
        raise api.UserError("no Docker answers, and only root can start one", remedy="start Docker, or run as root")
    sweep()
    run = Path(tempfile.mkdtemp(prefix="infra90-docker-", dir="/tmp"))  # a socket's path may have 107 characters
    data = store or scratch / "docker"
    address = f"unix://{run}/socket"
    client = ("docker", "-H", address)
    argv = [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        "dockerd", "--host", address, "--data-root", str(data), "--exec-root", f"{run}/exec", "--pidfile", f"{run}/pid",
        "--bridge=none", "--iptables=false", "--ip6tables=false", "--cgroup-parent", f"/{CGROUP}-{os.getpid()}",
    ]  # fmt: skip

    def ready() -> bool:
        return not subprocess.run([*client, "version"], capture_output=True, timeout=10).returncode

    log, version = scratch / "dockerd.log", (*client, "version", "--format", "{{.Server.Version}}")
    try:
        with (
            reaper.reaping(run),
            _gone(data, keep=store is not None),
            process.serve(argv, log=log, ready=ready, timeout_s=30) as child,
        ):
            try:
                yield Engine("docker", client, _version(version), env=LEGACY, own=True)
            finally:
                _end(child)
    finally:
        sweep(os.getpid())


def _end(unshare: subprocess.Popen[bytes], patience_s: float = 15) -> None:
    """Ask dockerd itself to stop: `unshare`, which waits for it, takes no notice of signals."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    for pid in children.read_text(encoding="utf-8").split() if unshare.poll() is None else ():
        os.kill(int(pid), signal.SIGTERM)
    try:
        unshare.wait(patience_s)
    except subprocess.TimeoutExpired:
        pass  # it is killed next, and all its containers with it


@contextmanager
def _gone(data: Path, keep: bool) -> Iterator[None]:
    """A private store is removed with the engine, however its user ends."""
    data.mkdir(parents=True, exist_ok=True)
    if keep:
        yield
        return
    with reaper.reaping(data):
        try:
            yield
        finally:
            subprocess.run(["rm", "-rf", "--one-file-system", str(data)])


def sweep(own: int = 0) -> None:
    """Remove the control groups of engines whose owner is gone, and those of `own`."""
    for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
        for group in hierarchy.glob(f"{CGROUP}-[0-9]*"):
            pid = int(group.name.rpartition("-")[2])
            if pid != own and Path(f"/proc/{pid}").exists():
                continue
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    print(f"{folder} is still in use: {error}", file=sys.stderr)


def _version(argv: Sequence[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=30).stdout.strip()
