"""Isolated virtual environments, provisioned on demand, cached outside the checkout by the hash of their lock."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from runner import settings, store
from runner.errors import mistake, nearest
from runner.parsed import cache_home
from runner.spec import file_hash
from tasks.api import Needs

Say = Callable[[str], None]
BROUGHT = "# brought along"
WITHOUT = "# without:"  # packages that others bring along and that must go again
DRIVER = Path("/proc/driver/nvidia/version")


def lock_file(root: Path, name: str) -> Path:
    """The pinned requirements of an environment: `conf/environment/locks/<name>.txt`.

    Where CUDA needs other packages there is `<name>.cuda.txt`, for machines with NVIDIA's driver.
    """
    locks = root / "conf" / "environment" / "locks"
    cuda = locks / f"{name}.cuda.txt"
    return cuda if DRIVER.exists() and cuda.exists() else locks / f"{name}.txt"


def known(root: Path) -> list[str]:
    return [name for name in settings.environments(root) if name != "runner"]


def python(root: Path, name: str, mode: str) -> Path:
    """The interpreter of an environment; `runner` and `mode='current'` mean the one that runs now."""
    if name == "runner" or mode == "current":
        return Path(sys.executable)
    return home(root, name) / "bin" / "python"


def pythons(root: Path, names: Iterable[str], mode: str) -> dict[str, str]:
    """The interpreter of each of these environments, as a job is told them."""
    return {name: str(python(root, name, mode)) for name in names}


def home(root: Path, name: str) -> Path:
    lock = lock_file(root, name)
    if not lock.is_file():
        raise mistake(f"no environment '{name}'", key="environment", remedy=nearest(name, known(root)))
    version = f"py{sys.version_info.major}{sys.version_info.minor}"
    return cache_home() / "environments" / f"{name}-{version}-{file_hash(lock)[:12]}"


def pins(root: Path, name: str, *, direct: bool = False) -> dict[str, str]:
    """Package → version as the lock pins them; `direct` leaves out what those bring along."""
    text = lock_file(root, name).read_text(encoding="utf-8") if lock_file(root, name).exists() else ""
    text = text.partition(BROUGHT)[0] if direct else text
    return dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", text, flags=re.M))


def versions(root: Path, needs: Needs, mode: str) -> dict[str, str]:
    """What a record says of the software: Python, the environment's packages, the binaries used."""
    wanted = {k: v for name in needs.environments for k, v in pins(root, name, direct=True).items()}
    if needs.environment == "runner" or mode == "current":
        names = wanted or dict.fromkeys(("infra90", "pydantic", "matplotlib"))
        found = {name: _installed(name) for name in names}
        wanted = {name: version for name, version in found.items() if version}
    return {"python": platform.python_version(), **wanted, **{b: binary_version(b) for b in needs.binaries}}


@cache
def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@cache
def binary_version(binary: str) -> str:
    """The first version number in `binary --version`, '' when it says none."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return found[0] if found else ""


def provision(root: Path, name: str, mode: str, say: Say) -> Path:
    """Make the environment unless it is there; safe to interrupt. Returns its interpreter.

    It is built beside its place and renamed when whole, so a half-made one is never used. Raises Mistakes with
    pip's last lines when it cannot be made.
    """
    interpreter = python(root, name, mode)
    if name == "runner" or mode == "current" or interpreter.exists():
        return interpreter
    place = home(root, name)
    with store.lock(place.with_suffix(".lock"), wait=True, on_wait=lambda busy: say(f"{name}: waiting, {busy}")):
        if interpreter.exists():
            return interpreter
        staged = place.with_suffix(".staged")
        shutil.rmtree(staged, ignore_errors=True)
        say(f"{name}: creating the environment")
        venv.create(staged, with_pip=True)
        _install(root, name, staged, say)
        _name_place(staged, place)
        staged.replace(place)
    return interpreter


def provision_all(root: Path, needs: Needs, mode: str, say: Say) -> Path:
    """Make every environment that these needs name. Returns the interpreter of the first, which runs the work."""
    own, *_ = [provision(root, name, mode, say) for name in needs.environments]
    return own


def _install(root: Path, name: str, staged: Path, say: Say) -> None:
    lock, log = lock_file(root, name), staged / "install.log"
    pip = [str(staged / "bin/python"), "-m", "pip"]
    lines: list[str] = []
    try:
        code = _piped([*pip, "install", "--progress-bar", "off", "--no-input", "-r", str(lock)], lines, root, name, say)
        if not code and (unwanted := without(lock)):
            code = _piped([*pip, "uninstall", "-y", *unwanted], lines, root, name, say)
    finally:
        log.write_text("".join(lines), encoding="utf-8")
    if code:
        keep = cache_home() / f"install-{name}.log"
        shutil.copy(log, keep)
        last = "".join([line for line in lines if "WARNING" not in line][-6:]).strip()
        raise mistake(f"the environment '{name}' could not be made:\n{last}", where=str(keep), key=str(lock))


def _name_place(staged: Path, place: Path) -> None:
    """The scripts of `staged` start the interpreter of `place`, where they are about to be."""
    for script in (staged / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            text = script.read_bytes()
            if str(staged).encode() in text and b"\0" not in text:
                script.write_bytes(text.replace(str(staged).encode(), str(place).encode()))


def without(lock: Path) -> list[str]:
    """Packages that the lock's `# without:` line takes out again after the installation."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    return [word for line in lines if line.startswith(WITHOUT) for word in line.removeprefix(WITHOUT).split()]


def _piped(argv: list[str], lines: list[str], root: Path, name: str, say: Say) -> int:
    """Run pip, its output into `lines` and its progress to `say`. Returns its exit code."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    pip = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        for message in _progress(pip, lines, name, len(pins(root, name))):
            say(message)
    finally:
        if pip.poll() is None:
            pip.terminate()
        code = pip.wait()
    return code


def _progress(pip: subprocess.Popen[str], lines: list[str], name: str, total: int) -> Iterator[str]:
    collected = 0
    for line in pip.stdout or ():
        lines.append(line)
        if line.startswith("Collecting "):
            collected += 1
            yield f"{name}: {min(collected, total)}/{total} {line.split()[1]}"
        elif size := re.match(r"\s+Downloading (\S+?)-.* \((.*)\)", line):
            yield f"{name}: {min(collected, total)}/{total} {size[1]} ({size[2]})"
        elif line.startswith("Installing collected"):
            yield f"{name}: unpacking {collected} packages"


def install_packages(packages: list[str], say: Say) -> str:
    """Install Debian packages without asking, if we may. Returns '' or why not."""
    if not packages:
        return ""
    apt = shutil.which("apt-get")
    if not apt:
        return f"this is no Debian or Ubuntu: install {', '.join(packages)} yourself"
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and (not shutil.which("sudo") or subprocess.run([*prefix, "true"], capture_output=True).returncode):
        return f"needs root: sudo apt-get install -y {' '.join(packages)}"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["update", "-q"], ["install", "-y", "-q", "--no-install-recommends", *packages]):
        say(f"apt-get {' '.join(argv)}")
        done = subprocess.run([*prefix, apt, *argv], capture_output=True, text=True, env=env)
        if done.returncode:
            return f"apt-get {argv[0]} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    return ""
