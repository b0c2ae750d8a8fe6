"""Ray Serve on this machine: a head, its HAProxy and the replicas of one model; started, scaled, stopped.

Ray starts daemons that start others; a reaper ends all of them when the block ends, even by SIGKILL of this process.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import tasks
from tasks.api import UserError
from tasks.services.open_load import Target
from tasks.services.process import LOOPBACK, free_port
from tasks.services.ray_model import Model, Network
from tasks.services.reaper import reaping

APP = "model"
REPLICA = f"ray::ServeReplica:{APP}"
SLOTS = 16  # processor slots declared to Ray: replicas share the real cores, as pods with small requests do
OBJECT_STORE = 80 * 2**20  # bytes; requests are small
SPARE = 4  # metrics ports beyond those of the replicas: one that stops holds its port a moment longer


@dataclass(frozen=True)
class RayServe:
    """A running Serve instance. `metrics` are the ports at which replicas expose Prometheus metrics."""

    url: str
    layers: int
    metrics: Sequence[int]

    @property
    def target(self) -> Target:
        return Target(f"{self.url}/?seed={{seed}}")

    def scale(self, replicas: int) -> None:
        """Ask for so many replicas, at least one; returns at once."""
        self.deploy(num_replicas=replicas)

    def scale_to_zero(self, idle_s: float = 0.0) -> None:
        """Keep no replica after so many idle seconds, start one when a request comes; requests wait for it."""
        self.deploy(
            autoscaling_config={
                "min_replicas": 0, "initial_replicas": 0, "max_replicas": 1,
                "upscale_delay_s": 0.0, "downscale_delay_s": idle_s, "metrics_interval_s": 0.2,
                "look_back_period_s": 0.5,
            }
        )  # fmt: skip

    def deploy(self, **options: Any) -> None:
        from ray import serve

        replica = serve.deployment(Model).options(
            _internal=True, version="1",  # the same version: only the number of replicas changes
            name="replica", max_ongoing_requests=1000, graceful_shutdown_timeout_s=1.0,
            health_check_period_s=1.0, health_check_timeout_s=5.0, ray_actor_options={"num_cpus": 0.1}, **options,
        )  # fmt: skip
        application = replica.bind(self.layers, self.metrics)
        serve.run_many(
            [serve.RunTarget(application, name=APP, route_prefix="/")],
            wait_for_ingress_deployment_creation=False, wait_for_applications_running=False,
        )  # fmt: skip

    def running(self) -> int:
        """How many replicas take requests."""
        from ray import serve

        deployments = serve.status().applications[APP].deployments
        return int(deployments["replica"].replica_states.get("RUNNING", 0)) if deployments else 0

    def wait(self, replicas: int, timeout_s: float = 40) -> float:
        """Seconds until exactly so many replicas run."""
        started = time.monotonic()
        while self.running() != replicas:
            if time.monotonic() - started > timeout_s:
                raise UserError(f"Ray Serve did not come to {replicas} replicas within {timeout_s:.0f} s")
            time.sleep(0.05)
        return time.monotonic() - started

    def pids(self) -> list[int]:
        """The processes of the replicas that take requests, oldest first."""
        import psutil

        below = psutil.Process().children(recursive=True)
        replicas = [process for process in below if title(process).startswith(REPLICA)]
        return [process.pid for process in sorted(replicas, key=lambda one: one.create_time())][: self.running()]

    def verify(self) -> None:
        """One answer against the same network computed here."""
        expected = Network(self.layers).answer(7)
        with urlopen(f"{self.url}/?seed=7", timeout=20) as answer:
            served = answer.read().decode()
        if served != expected:
            raise UserError(f"the model answers {served!r} where {expected!r} is right")


def title(process: Any) -> str:
    """A process's title, "" when it has just gone."""
    import psutil

    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def serving(*, layers: int = 2, most: int = 8) -> Iterator[RayServe]:
    """Ray Serve with one replica that answers rightly, until the block ends. Up to `most` replicas.

    Call it once in a process: Ray reads its settings when it is imported. Its files lie directly below /tmp, because
    HAProxy's sockets must have short paths; the reaper removes them.
    """
    home = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    os.environ.update(environment(home))
    with reaping(home), head(home):
        from ray import serve

        port = free_port()
        serve.start(http_options=serve.config.HTTPOptions(host=LOOPBACK, port=port))
        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # it would announce every change of replicas
        instance = RayServe(f"http://{LOOPBACK}:{port}", layers, [free_port() for _ in range(most + SPARE)])
        instance.scale(1)
        instance.wait(1)
        instance.verify()
        yield instance


@contextmanager
def head(home: Path) -> Iterator[None]:
    import ray

    ray.init(
        num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=OBJECT_STORE, _temp_dir=str(home), _node_ip_address=LOOPBACK,
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def environment(home: Path) -> dict[str, str]:
    """Ray's settings: HAProxy in front of the replicas, quick drains, no calls home, files and ports of its own."""
    names = {"CONFIG_FILE_LOC": "haproxy.cfg", "SOCKET_PATH": "admin.sock", "SERVER_STATE_BASE": "",
             "SERVER_STATE_FILE": "state", "METRICS_SOCKET_PATH": "metrics.sock"}  # fmt: skip
    return {
        "PYTHONPATH": str(Path(tasks.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "5",
        "RAY_SERVE_PORT_QUARANTINE_S": "6",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        **{f"RAY_SERVE_HAPROXY_{name}": str(home / file) for name, file in names.items()},
    }
