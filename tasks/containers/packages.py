"""The packages for builds without the Internet's noise: wheels fetched once by this machine's pip, and a caching proxy.

A build is given `http_proxy`, which Docker keeps out of the image and its history, and the build argument
`PIP_FIND_LINKS=http://localhost/infra90-wheels/`, which the proxy answers itself (pip trusts localhost without TLS).
What the host's pip is told in its configuration (indexes, certificates) is used here, outside the build, so that
none of it gets into an image.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tasks.api import UserError
from tasks.services import base_image
from tasks.services.process import LOOPBACK

WHEELS = "http://localhost/infra90-wheels/"
PYTHON = "3.11"  # of Debian bookworm, which is in the image
CPU_HOST, CPU_INDEX = "download.pytorch.org", "https://download.pytorch.org/whl/cpu"
FOREVER = "max-age=365000000, immutable"  # what PyPI says of its files: pip may keep them in its cache


@dataclass(frozen=True)
class Packages:
    """What a build is told: the proxy, and whether pip is to take nothing but the wheels."""

    proxy: str
    wheels: bool

    @property
    def build_args(self) -> dict[str, str]:
        pip = {"PIP_FIND_LINKS": WHEELS, "PIP_NO_INDEX": "1"} if self.wheels else {}
        return {"http_proxy": self.proxy, **pip}


def wheels(requirements: Sequence[str], say: Callable[[str], None], *, gpu: bool = False) -> Path:
    """A folder with the wheels of these requirements and all that they need, downloaded once by this machine's pip.

    Empty without requirements: pip in the build is then left alone.

    Without a GPU the CPU build of torch is preferred where its index can be reached. Raises UserError with pip's words.
    """
    recipe = hashlib.sha256("\n".join([*sorted(requirements), PYTHON, str(gpu)]).encode()).hexdigest()[:12]
    with base_image.locked(f"wheels-{recipe}") as home:
        folder = home / "wheels" / recipe
        if not folder.exists():
            if requirements:
                say(f"downloading the wheels of {', '.join(requirements)} (once)")
            folder.parent.mkdir(exist_ok=True)
            staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".wheels-"))
            try:
                if requirements:
                    _download(requirements, staging, gpu)
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        return folder


def _download(requirements: Sequence[str], folder: Path, gpu: bool) -> None:
    machine = platform.machine()
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary=:all:"]
    argv += ["--python-version", PYTHON, "--implementation", "cp"]
    for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"):
        argv += ["--platform", f"{tag}_{machine}"]
    if not gpu and base_image.answers(CPU_HOST):
        argv += ["--extra-index-url", CPU_INDEX]
    done = subprocess.run([*argv, *requirements], capture_output=True, text=True, timeout=1800)
    if done.returncode:
        faults = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError("pip cannot get the wheels: " + "\n".join(faults or [done.stderr[-600:]]))


@contextmanager
def serving(folder: Path) -> Iterator[Packages]:
    """A proxy on loopback until the block ends: `WHEELS` is `folder`, Debian packages are kept on disk."""
    kept = base_image.cache() / "debs"
    kept.mkdir(exist_ok=True)
    server = _Server(folder, kept)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Packages(f"http://{LOOPBACK}:{server.server_port}", any(folder.iterdir()))
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, kept: Path) -> None:
        self.folder, self.kept = folder, kept
        super().__init__((LOOPBACK, 0), _Proxy)


class _Proxy(BaseHTTPRequestHandler):
    """GET of absolute addresses, as apt and pip send them to a proxy."""

    protocol_version = "HTTP/1.1"

    server: _Server

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        name = Path(urllib.parse.unquote(address.path)).name
        if self.path.startswith(WHEELS):
            self._wheel(urllib.parse.unquote(self.path.removeprefix(WHEELS)))
        elif name.endswith(".deb"):
            self._package(self.server.kept / f"{hashlib.sha256(self.path.encode()).hexdigest()[:16]}-{name}")
        else:
            self._answer(*self._fetched())

    def _wheel(self, name: str) -> None:
        file = self.server.folder / name
        if name and file.is_file():
            self._answer(200, file.read_bytes(), "application/octet-stream", FOREVER)
            return
        names = [one.name for one in self.server.folder.iterdir()]
        links = "".join(f'<a href="{urllib.parse.quote(one)}">{one}</a>\n' for one in names)
        self._answer(404 if name else 200, links.encode(), "text/html")

    def _package(self, file: Path) -> None:
        """A Debian package never changes under its name: the second build gets it from disk."""
        if not file.exists():
            code, body, kind = self._fetched()
            if code != 200:
                self._answer(code, body, kind)
                return
            staged = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
            staged.write_bytes(body)
            staged.replace(file)
        self._answer(200, file.read_bytes(), "application/octet-stream")

    def _fetched(self) -> tuple[int, bytes, str]:
        try:
            with urllib.request.urlopen(self.path, timeout=120) as answer:
                return answer.status, answer.read(), answer.headers.get("Content-Type", "application/octet-stream")
        except urllib.error.HTTPError as error:
            return error.code, error.read(), "text/plain"
        except OSError as error:
            return 502, str(error).encode(), "text/plain"

    def _answer(self, code: int, body: bytes, kind: str, cache: str = "no-store") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", cache)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the build's own log says what was downloaded."""
