"""Replica processes behind Envoy: a supervisor starts what is missing and tells Envoy who takes requests."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tasks.services import envoy, supervisor, upstream
from tasks.services.envoy import Envoy
from tasks.services.envoy_config import Route
from tasks.services.upstream import Upstream

CLUSTER = VERSION = "v1"


class EnvoyFleet:
    """Replicas that are processes; Envoy's endpoints follow their readiness, as a Service's follow its Pods."""

    def __init__(self, proxy: Envoy, also_tell: Callable[[Sequence[Upstream | None]], None]) -> None:
        self._also_tell = also_tell
        self.proxy, self.target = proxy, upstream.target(proxy.address)
        self.keepers: list[supervisor.Keeper[Upstream]] = []
        self._turn = threading.Lock()

    def alive(self) -> list[Upstream]:
        return [one for keeper in self.keepers if (one := keeper.alive())]

    def kill_one(self, choose: random.Random) -> None:
        os.kill(choose.choice(self.alive()).pid, signal.SIGKILL)

    def ready(self) -> int:
        return len(self.alive())

    def tell(self) -> None:
        """Give Envoy the replicas that are ready now, and whoever else wants to know each one's place (None: gone)."""
        with self._turn:
            self.proxy.endpoints(CLUSTER, [one.port for one in self.alive()])
            self._also_tell([keeper.alive() for keeper in self.keepers])


@contextmanager
def replicated(
    replicas: int, layers: int, retries: int, scratch: Path,
    also_tell: Callable[[Sequence[Upstream | None]], None] = lambda replicas: None,
) -> Iterator[EnvoyFleet]:  # fmt: skip
    """So many replicas of the small network, Envoy in front; a request that met a dead one is tried `retries` times."""
    with ExitStack() as stack:
        proxy = stack.enter_context(envoy.serve({CLUSTER: []}, Route({CLUSTER: 100}, retries=retries), scratch))
        fleet = EnvoyFleet(proxy, also_tell)
        for number in range(replicas):
            start = partial(upstream.serve, VERSION, layers, scratch / f"replica-{number}.log")
            fleet.keepers.append(stack.enter_context(supervisor.keeping(start, fleet.tell)))
        fleet.tell()
        yield fleet
