"""Starts the whole service from this folder: Triton, the gateway in front of it, Prometheus beside it.

    python3 serve.py                    gateway on 127.0.0.1:8080, Triton on 8000-8002, Prometheus on 9090
    python3 serve.py --free-ports       ports that are free, printed as one JSON line when all three answer
    python3 serve.py --check            starts everything, asks for one digit, stops; exit code 0 for the right answer

Needs nginx and prometheus on PATH and the packages of requirements.txt. Ctrl-C stops everything.
"""

import argparse
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from string import Template
from urllib.request import urlopen

import smoke

HERE = Path(__file__).resolve().parent
PORTS = {"gateway": 8080, "http": 8000, "grpc": 8001, "metrics": 8002, "prometheus": 9090}
READY_S = 60


def main() -> int:
    options = arguments()
    ports = {name: free_port() for name in PORTS} if options.free_ports or options.check else PORTS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        run = options.run or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inference-service-")))
        run.mkdir(parents=True, exist_ok=True)
        children: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(stop, children)
        for part in (triton, gateway, prometheus):
            argv, env = part(run, options, ports)
            log = stack.enter_context((run / f"{part.__name__}.log").open("wb"))
            children[part.__name__] = subprocess.Popen(argv, env={**os.environ, **env}, stdout=log, stderr=log)
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        health = ("http", "/v2/health/ready"), ("gateway", "/healthz"), ("prometheus", "/-/ready")
        wait(children, run, *(urls[part] + path for part, path in health))
        print(json.dumps({**urls, "pids": [child.pid for child in children.values()]}), flush=True)
        if options.check:
            return int(smoke.ask(urls["gateway"]) != 7)
        while not died(children, run):
            time.sleep(0.5)
        return 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address of the gateway and of the metrics")
    parser.add_argument("--models", type=Path, default=HERE / "models", help="Triton's model repository")
    parser.add_argument("--run", type=Path, help="folder for what the servers write (default: a temporary one)")
    parser.add_argument("--free-ports", action="store_true", help="take free ports instead of the usual ones")
    parser.add_argument("--check", action="store_true", help="start, ask for one digit, stop")
    return parser.parse_args()


def triton(run: Path, options: argparse.Namespace, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """The tritonserver of the nvidia-pytriton wheel; its Python backend gets the stub of this Python."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None:
        sys.exit("no pytriton: pip install -r requirements.txt")
    home = Path(spec.origin).parent / "tritonserver"
    backend = run / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    for source in (stub, *(home / "backends" / "python").iterdir()):
        if not (backend / source.name).exists():
            (backend / source.name).symlink_to(source)
    libraries = f"{home.parents[1] / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
    argv = [
        str(home / "bin" / "tritonserver"), f"--model-repository={options.models}",
        f"--backend-directory={backend.parent}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1",
        f"--metrics-address={options.host}", f"--http-port={ports['http']}", f"--grpc-port={ports['grpc']}",
        f"--metrics-port={ports['metrics']}", "--metrics-interval-ms=500",
        f"--backend-config=python,shm-region-prefix-name=service-{os.getpid()}",
    ]  # fmt: skip
    return argv, {"LD_LIBRARY_PATH": libraries, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def gateway(run: Path, options: argparse.Namespace, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """nginx with gateway/nginx.conf; it leaves the file's own $variables alone."""
    filled = Template((HERE / "gateway" / "nginx.conf").read_text(encoding="utf-8")).safe_substitute(
        RUN=run, TRITON=f"127.0.0.1:{ports['http']}", GATEWAY=f"{options.host}:{ports['gateway']}"
    )
    (run / "nginx.conf").write_text(filled, encoding="utf-8")
    return ["nginx", "-e", "stderr", "-p", str(run), "-c", str(run / "nginx.conf")], {}


def prometheus(run: Path, options: argparse.Namespace, ports: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Prometheus with prometheus/, which then scrapes the Triton that was started."""
    for file in (HERE / "prometheus").glob("*.yml"):
        text = file.read_text(encoding="utf-8").replace("localhost:8002", f"127.0.0.1:{ports['metrics']}")
        (run / file.name).write_text(text, encoding="utf-8")
    argv = [
        "prometheus", f"--config.file={run / 'prometheus.yml'}", f"--storage.tsdb.path={run / 'data'}",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}", "--log.level=warn",
    ]  # fmt: skip
    return argv, {}


def wait(children: dict[str, subprocess.Popen[bytes]], run: Path, *urls: str) -> None:
    """Until every URL answers 200; exits when a server dies or the time is up."""
    end = time.monotonic() + READY_S
    for url in urls:
        while True:
            if died(children, run):
                sys.exit(1)
            if time.monotonic() > end:
                sys.exit(f"{url} does not answer")
            try:
                if urlopen(url, timeout=2).status == 200:
                    break
            except OSError:
                time.sleep(0.05)


def died(children: dict[str, subprocess.Popen[bytes]], run: Path) -> bool:
    """Whether one of the servers has ended; says which, and its last words."""
    for name, child in children.items():
        if child.poll() is not None:
            words = (run / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
            telling = [line for line in words if re.search("error|emerg|fail", line, re.IGNORECASE)] or words
            print(f"{name} ended with {child.returncode}:", *telling[-8:], sep="\n", file=sys.stderr)
            return True
    return False


def stop(children: dict[str, subprocess.Popen[bytes]]) -> None:
    """Ask each server to end, then see that it did, and clear Triton's shared memory."""
    for name, child in children.items():
        child.send_signal(signal.SIGINT if name == "triton" else signal.SIGTERM)
    for child in children.values():
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for region in Path("/dev/shm").glob(f"service-{os.getpid()}*"):
        region.unlink(missing_ok=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
