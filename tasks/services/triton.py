"""A real Triton Inference Server: found, started on free loopback ports, ready, stopped.

The server is the one bundled in the `nvidia-pytriton` wheel of the running environment, or, without that wheel,
a system installation (the NGC image: `/opt/tritonserver/bin/tritonserver`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services import process

NGC_SERVER = Path("/opt/tritonserver/bin/tritonserver")
TRIED_AGAIN = ("already in use", "interprocess::lock_exception")  # a port taken meanwhile; a stub that lost a race
REFUSAL = re.compile(r"^(?:E\d{4} [^\]]*\] |\[libprotobuf ERROR [^\]]*\] |error: )(.*)", re.MULTILINE)
NO_GPU = "CudaDriverHelper"  # logged as an error on every machine without a GPU
STOP_S = 1.0  # nothing is lost by killing it: it would wait for idle keep-alive connections otherwise
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Triton:
    """A server that is ready. Addresses are `127.0.0.1:port`."""

    http: str
    grpc: str
    metrics: str
    pid: int


@dataclass(frozen=True)
class Installation:
    """Where a tritonserver is and what it needs to run."""

    binary: Path
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


@contextmanager
def serve(repository: Path, log: Path, *, args: Sequence[str] = (), timeout_s: float = 90) -> Iterator[Triton]:
    """Serve every model of `repository` until the block ends; ready means: all models loaded and answering.

    `args` are further tritonserver options (`--rate-limit=execution_count`, `--cache-config=local,size=…`).
    Raises UserError with the server's own message when it refuses a configuration.
    """
    with ExitStack() as stack:
        backends = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="triton-backends-")))
        installation = find_installation(backends)
        for attempts_left in (2, 1, 0):
            try:
                server = stack.enter_context(start(installation, repository, log, args, timeout_s))
                break
            except UserError as error:
                if not attempts_left or not any(cause in str(error) for cause in TRIED_AGAIN):
                    raise
        yield server


@contextmanager
def start(
    installation: Installation, repository: Path, log: Path, args: Sequence[str], timeout_s: float
) -> Iterator[Triton]:
    """One attempt on fresh ports. The server's id proves that it is ours that answers, not another on the same port."""
    name = f"infra90-{uuid.uuid4().hex[:12]}"
    ports = {service: process.free_port() for service in ("http", "grpc", "metrics")}
    addresses = {service: f"{process.LOOPBACK}:{port}" for service, port in ports.items()}
    argv = [
        str(installation.binary), f"--id={name}", f"--model-repository={repository}", *installation.args,
        *(f"--{service}-address={process.LOOPBACK}" for service in ports),
        *(f"--{service}-port={port}" for service, port in ports.items()),
        f"--backend-config=python,shm-region-prefix-name={name}", "--metrics-interval-ms=500", *args,
    ]  # fmt: skip
    logged = log.stat().st_size if log.exists() else 0
    with ExitStack() as stack:
        stack.callback(remove_shared_memory, name)
        try:
            child = stack.enter_context(
                process.serve(
                    argv, log=log, ready=lambda: is_ready(addresses["http"], name), env=installation.env,
                    timeout_s=timeout_s, stop_signal=signal.SIGINT, stop_s=STOP_S,
                )
            )  # fmt: skip
        except UserError as error:
            if reasons := refusals(log, logged):
                raise UserError("Triton refused to start:\n" + "\n".join(reasons)) from error
            raise
        yield Triton(**addresses, pid=child.pid)


def is_ready(http: str, name: str) -> bool:
    """Whether the server called `name` answers on `http` with every model loaded."""
    with urlopen(f"http://{http}/v2", timeout=2) as answer:
        if json.load(answer)["name"] != name:
            return False
    with urlopen(f"http://{http}/v2/health/ready", timeout=2) as answer:
        return bool(answer.status == 200)


def refusals(log: Path, start: int) -> list[str]:
    """The server's own error messages in the log from byte `start`, each once, without time stamps."""
    text = log.read_bytes()[start:].decode(errors="replace")
    errors = REFUSAL.findall(text)
    return list(dict.fromkeys(message.strip('"') for message in errors if NO_GPU not in message))


def find_installation(scratch: Path) -> Installation:
    """The wheel's server, its backends laid out under `scratch`; else a system one. UserError when there is neither."""
    spec = importlib.util.find_spec("pytriton")
    if spec and spec.origin:
        return bundled(Path(spec.origin).parent / "tritonserver", scratch)
    system = shutil.which("tritonserver") or (str(NGC_SERVER) if NGC_SERVER.exists() else "")
    if not system:
        raise UserError("no tritonserver found", remedy="pip install nvidia-pytriton==0.7.0, or the NGC image")
    return Installation(Path(system))


def bundled(home: Path, scratch: Path) -> Installation:
    """The server of the wheel at `home`, with the Python stub of the running version (the wheel is not written to)."""
    require_numpy_1()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise UserError(f"nvidia-pytriton has no Python backend for Python {version}", remedy="use Python 3.8 to 3.13")
    backend = scratch / "python"
    backend.mkdir()
    for source in (stub, *(home / "backends" / "python").iterdir()):
        (backend / source.name).symlink_to(source)
    libraries = [home.parents[1] / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR"))]
    return Installation(
        home / "bin" / "tritonserver",
        (f"--backend-directory={scratch}", f"--cache-directory={home / 'caches'}"),
        # the stub embeds Python: it finds this environment's packages through the first python3 on PATH
        {"LD_LIBRARY_PATH": join(*libraries), "PATH": join(Path(sys.executable).parent, os.environ.get("PATH", ""))},
    )


def require_numpy_1() -> None:
    """With numpy 2 the wheel's Python backend answers with empty tensors and reports success: refuse it."""
    version = importlib.metadata.version("numpy")
    if int(version.partition(".")[0]) > 1:
        raise UserError(f"numpy {version} silently corrupts Triton's outputs", remedy='pip install "numpy<2"')


def backends() -> set[str]:
    """The backends of the server found here: what a model's `backend` may say. They lie beside the server's `bin`."""
    with tempfile.TemporaryDirectory(prefix="triton-backends-") as scratch:
        home = find_installation(Path(scratch)).binary.resolve().parents[1]
    return {library.parent.name for library in (home / "backends").glob("*/libtriton_*.so")}


def join(*parts: Path | str) -> str:
    return os.pathsep.join(str(part) for part in parts if str(part))


def remove_shared_memory(prefix: str) -> None:
    """A killed server leaves its Python stubs' shared memory behind."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
