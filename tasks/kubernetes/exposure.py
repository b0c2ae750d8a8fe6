"""One service behind three ways in: `kubectl port-forward`, a NodePort, an Ingress.

On a cluster they are what they are called. Elsewhere the hops that they put in the way stand in for them: a relay in
user space, nothing at all (a NodePort is rewritten by the kernel), and nginx.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.kubernetes import exposure_cluster
from tasks.services import closed_load, nginx, open_load, relay, timing, upstream
from tasks.services.open_load import Target

CLUSTER, STAND_IN = "Kubernetes", "TCP relay / direct port / nginx"
VERSION, LAYERS = "v1", 1  # the lightest model: the way in is what differs
WARM_S = 1.0
TURNS = 3  # of the saturated load: the median counts

Exposure = Literal["port-forward", "nodeport", "ingress"]


class Params(api.Params):
    """Latency is taken at `qps`, open-loop; throughput from `connections` that ask as fast as they are answered."""

    qps: float = Field(default=200, gt=0)
    seconds: float = Field(default=5, gt=0)
    connections: int = Field(default=16, ge=1)
    saturated_s: float = Field(default=3, gt=0)
    image: str = "nginx:1.27-alpine"  # the cluster's server
    ingress_class: str = "nginx"
    ingress_address: str = ""  # of the controller ("localhost:80" on kind); empty: what the Ingress's status says


class Point(api.Params):
    exposure: Exposure = "nodeport"


METRICS = {
    "latency_p50_ms": "median latency at the set rate, from the moment a request was due",
    "latency_p99_ms": "99th percentile of the same",
    "throughput_rps": "requests answered per second when every connection asks again at once; median of three turns",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(backend=CLUSTER, environment="traffic", binaries=("kubectl", "hey"), cluster=True),
        api.Needs(
            backend=STAND_IN, stand_in_for=CLUSTER, environment="traffic", binaries=("nginx", "hey", "setpriv"),
            memory_gb=1,
        ),
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    ways = in_cluster if ctx.backend == CLUSTER else on_loopback
    with ways([point.exposure for point in ctx.points], params, ctx) as targets:
        for point, target in zip(ctx.points, targets, strict=True):
            offer(target, params.qps, WARM_S, ctx, ctx.seed + 1)
            latency = offer(target, params.qps, params.seconds, ctx, ctx.seed).latency_ms()
            rates = timing.spread([saturated(target, params, turn) for turn in range(TURNS)])
            measured = {"latency_p50_ms": latency.p50, "latency_p99_ms": latency.p99, "throughput_rps": rates.p50}
            ctx.record(point, measured, {"latency_p50_ms": latency, "latency_p99_ms": latency, "throughput_rps": rates})


def saturated(target: Target, params: Params, turn: int) -> float:
    url = target.url.replace("{seed}", str(turn))
    return closed_load.throughput(url, params.connections, params.saturated_s / TURNS)


def offer(target: Target, qps: float, seconds: float, ctx: api.Context, seed: int) -> open_load.Answers:
    """Open-loop load at one rate. Raises UserError when a request was not answered with 200."""
    out = ctx.scratch / "answers.npy"
    with open_load.load(target, [(seconds, qps)], out, seed):
        pass
    answers = open_load.answers(out)
    if lost := answers.error_pct():
        raise api.UserError(f"{lost:.2f}% of the requests were not answered with 200", where=target.url)
    return answers


@contextmanager
def on_loopback(exposures: Sequence[Exposure], params: Params, ctx: api.Context) -> Iterator[list[Target]]:
    """The model and the hop of each way in, its answer checked through every one of them."""
    with ExitStack() as stack:
        server = stack.enter_context(upstream.serve(VERSION, LAYERS, ctx.scratch / "server.log"))
        addresses = []
        for exposure in exposures:
            address = server.address
            if exposure == "port-forward":
                address = stack.enter_context(relay.serve(server.address, ctx.scratch / "relay.log"))
            elif exposure == "ingress":
                address = stack.enter_context(nginx.proxy(server.address, ctx.scratch / "nginx"))
            upstream.verify(address, {VERSION: LAYERS})
            addresses.append(address)
        yield [upstream.target(address) for address in addresses]


@contextmanager
def in_cluster(exposures: Sequence[Exposure], params: Params, ctx: api.Context) -> Iterator[list[Target]]:
    with exposure_cluster.exposed(exposures, params.image, params.ingress_class, params.ingress_address, ctx) as urls:
        yield [Target(url) for url in urls]
