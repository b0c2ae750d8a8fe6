"""A small Debian with Python for containers: pulled where a registry answers, else made once by debootstrap and cached.

Both give the same thing, named `IMAGE` in the engine: Debian bookworm with python3 and the CA certificates, no pip.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.api import UserError

IMAGE = "localhost/infra90-base:bookworm"
SUITE, PACKAGES = "bookworm", "ca-certificates,python3"
REGISTRY, PULLED = "registry-1.docker.io", "docker.io/library/debian:bookworm-slim"
MIRROR = "http://deb.debian.org/debian"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DRESS = f"""FROM {PULLED}
RUN apt-get update && apt-get install -y --no-install-recommends {PACKAGES.replace(",", " ")} \\
 && rm -rf /var/lib/apt/lists/*
"""
# As in Debian's own images: no documentation, no copies of what was downloaded, no fsync for each unpacked file.
DPKG = (
    "force-unsafe-io\npath-exclude /usr/share/doc/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/locale/*\n"
)
# A mirror that is frozen (a snapshot, an offline copy) serves Release files that have expired.
APT = (
    'Acquire::Check-Valid-Until "false";\nAcquire::Languages "none";\n'
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n'
)
ROOM_S = 900  # for a slow mirror

Say = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """The image's name in the engine, and where it came from."""

    image: str
    origin: Literal["pulled", "debootstrap"]


def provide(engine: Sequence[str], say: Say, env: Mapping[str, str] | None = None) -> Base:
    """Have `IMAGE` in the engine (`["docker", "-H", …]`, `["podman"]`): 3 s from the cached root, 40 s the first time.

    Raises UserError with the tool's own message when it can neither be pulled nor made.
    """
    surroundings = {**os.environ, **(env or {})}
    if found := _said([*engine, "image", "inspect", "--format", "{{.Comment}} ", IMAGE], surroundings):
        return Base(IMAGE, "debootstrap" if found.lower().startswith("import") else "pulled")
    if answers(REGISTRY) and _said([*engine, "pull", PULLED], surroundings):
        say(f"base image: {PULLED}, with python3")
        _do([*engine, "build", "--network=host", "-t", IMAGE, "-"], surroundings, DRESS)
        return Base(IMAGE, "pulled")
    archive = root_archive(say)
    changes = (f"ENV PATH={PATH}", "ENV LANG=C.UTF-8", 'CMD ["/bin/bash"]')
    options = [word for change in changes for word in ("--change", change)]
    _do([*engine, "import", *options, str(archive), IMAGE], surroundings)
    return Base(IMAGE, "debootstrap")


def answers(host: str, timeout_s: float = 3) -> bool:
    """Whether something listens at the host's HTTPS port."""
    try:
        socket.create_connection((host, 443), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def cache() -> Path:
    """Where what containers need is kept between runs: `$XDG_CACHE_HOME/infra90/containers`."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infra90" / "containers"
    home.mkdir(parents=True, exist_ok=True)
    return home


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """The cache folder, while no other process works on the same part of it."""
    with (cache() / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache()


def root_archive(say: Say) -> Path:
    """The root file system as a tar (about 200 MB): made once, by root, then kept."""
    with locked("base") as home:
        recipe = hashlib.sha256("".join((PACKAGES, MIRROR, APT, DPKG)).encode()).hexdigest()[:8]
        archive = home / f"{SUITE}-{recipe}.tar"
        if not archive.exists():
            say(f"making a base image with debootstrap from {MIRROR} (once, about 40 s)")
            _bootstrap(archive)
        return archive


def _bootstrap(archive: Path) -> None:
    staging = Path(tempfile.mkdtemp(dir=archive.parent, prefix=".base-"))
    root = staging / "root"
    try:
        _do(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), MIRROR], os.environ)
        security = MIRROR.replace("/debian", "/debian-security")
        sources = f"deb {MIRROR} {SUITE} main\ndeb {security} {SUITE}-security main\n"
        (root / "etc/apt/sources.list").write_text(sources, encoding="utf-8")
        (root / "etc/apt/apt.conf.d/90infra90").write_text(APT, encoding="utf-8")
        (root / "etc/dpkg/dpkg.cfg.d/90infra90").write_text(DPKG, encoding="utf-8")
        for left in (
            "var/cache/apt",
            "var/lib/apt/lists",
            "var/log",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(root / left)
            (root / left).mkdir()
        made = staging / "root.tar"
        _do(["tar", "--numeric-owner", "--exclude=./dev/*", "-C", str(root), "-cf", str(made), "."], os.environ)
        made.replace(archive)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _said(argv: Sequence[str], env: Mapping[str, str]) -> str:
    """What a command printed that may fail; empty when it did."""
    try:
        done = subprocess.run(argv, env=dict(env), capture_output=True, text=True, timeout=ROOM_S)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if not done.returncode else ""


def _do(argv: Sequence[str], env: Mapping[str, str], stdin: str = "") -> None:
    try:
        done = subprocess.run(argv, env=dict(env), capture_output=True, text=True, input=stdin, timeout=ROOM_S)
    except subprocess.TimeoutExpired:
        raise UserError(f"{argv[0]} took longer than {ROOM_S} s", remedy="look at the network and the mirror") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-6:]
        raise UserError(f"{' '.join(argv[:2])} failed:\n" + "\n".join(said), remedy="the base image could not be made")
