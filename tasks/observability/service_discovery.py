"""Kind `service_discovery`: pods come and go; what the learner's relabel rules keep, drop, and how fast that shows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import configuration, pods
from tasks.observability.pods import Source
from tasks.services import prometheus
from tasks.services.prometheus import Prometheus

METRICS = {
    "targets_up": "pods that are scraped and answer",
    "targets_dropped": "pods that were discovered and that the relabel rules dropped",
    "discovery_delay_s": "from the change of the pods until Prometheus's targets were as they should be",
    "scraped_unasked": "pods without the annotation among the scraped ones",
}
KUBERNETES, FILE = "Kubernetes discovery", "Prometheus file_sd"
WAIT_S = 30


class Params(Base):
    config: str = "prometheus.yaml"
    job: str = "pods"
    pods: int = 3
    interval_s: float = 1  # of scrapes
    image: str = "quay.io/prometheus/node-exporter:v1.8.2"  # of the pods, on a cluster
    port: int = 9100


class Point(Base):
    pods: Literal["annotated", "unannotated", "removed"] = "annotated"


@dataclass(frozen=True)
class Targets:
    """What Prometheus knows of the pods."""

    up: int
    down: int
    dropped: int


def needs(params: Params) -> Sequence[Needs]:
    binaries = ("prometheus", "promtool")
    return [
        Needs(KUBERNETES, binaries=(*binaries, "kubectl"), cluster=True),
        Needs(FILE, stand_in_for=KUBERNETES, binaries=binaries, modules=("prometheus_client",)),
    ]


def run(params: Params, ctx: Context) -> None:
    config = configuration.load(ctx.day / params.config)
    job = configuration.job(config, params.job, params.config)
    pods.require_rules(job, params.config)
    with source(params, ctx) as there:
        placed = configuration.placed(config, ctx.day, {}, rules=False)
        placed = configuration.every({**placed, "scrape_configs": [there.discover(job)]}, params.interval_s)
        with prometheus.configured(placed, ctx.scratch / "prometheus") as server:
            for point in ctx.points:
                ctx.say(f"{params.pods} pods: {point.pods}")
                there.set([])
                reach(server, Targets(0, 0, 0))
                delay, found = change(params, point, there, server)
                metrics = {
                    "targets_up": found.up, "targets_dropped": found.dropped, "discovery_delay_s": delay,
                    "scraped_unasked": found.up + found.down if point.pods == "unannotated" else 0,
                }  # fmt: skip
                ctx.record(point, metrics)


@contextmanager
def source(params: Params, ctx: Context) -> Iterator[Source]:
    if ctx.backend == KUBERNETES:
        with pods.in_cluster(params.image, params.port, ctx.scratch) as cluster:
            yield cluster
    else:
        with pods.described(params.pods, ctx.scratch) as described:
            yield described


def change(params: Params, point: Point, there: Source, server: Prometheus) -> tuple[float, Targets]:
    """Bring the pods into the point's state; the time until Prometheus shows it, and what it shows."""
    kept, dropped, none = Targets(params.pods, 0, 0), Targets(0, 0, params.pods), Targets(0, 0, 0)
    if point.pods == "removed":
        there.set([True] * params.pods)
        reach(server, kept)
    start = time.monotonic()
    there.set([] if point.pods == "removed" else [point.pods == "annotated"] * params.pods)
    found = reach(server, {"annotated": kept, "unannotated": dropped, "removed": none}[point.pods])
    return time.monotonic() - start, found


def reach(server: Prometheus, wanted: Targets) -> Targets:
    """Wait until Prometheus's targets are as wanted. Raises UserError with what they are when they do not become so."""
    deadline = time.monotonic() + WAIT_S
    while (found := targets(server)) != wanted:
        if time.monotonic() > deadline:
            raise UserError(f"after {WAIT_S} s Prometheus has {found}, where the relabel rules should give {wanted}")
        time.sleep(0.05)
    return found


def targets(server: Prometheus) -> Targets:
    answer = server.ask("targets", {})
    health = [target["health"] for target in answer["activeTargets"]]
    return Targets(health.count("up"), len(health) - health.count("up"), len(answer["droppedTargets"]))
