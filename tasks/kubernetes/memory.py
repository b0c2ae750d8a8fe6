"""A Pod that allocates until its memory limit kills it, under two pairs of requests and limits.

On a cluster the API server judges the Pod and the kubelet runs it. Elsewhere podman plays the same Pod with the
oom_score_adj that the kubelet would have set; nothing evicts there, so that who goes first is seen by a limit that two
containers share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.kubernetes import memory_cluster, memory_pods
from tasks.kubernetes.memory_pod import Pair
from tasks.services import timing

CLUSTER, PODMAN = "Kubernetes", "podman play kube"


class Params(api.Params):
    """`image` is the cluster's; it needs a shell and coreutils. `overshoot` is what is allocated, in limits."""

    image: str = "debian:bookworm-slim"
    overshoot: float = Field(default=1.5, gt=1, le=4)  # bounded: a limit that is not in force must not fill the machine


class Point(api.Params):
    requests_limits: Literal["1Gi/512Mi", "512Mi/1Gi"] = "512Mi/1Gi"

    @property
    def pair(self) -> Pair:
        return Pair(*self.requests_limits.split("/"))


METRICS = {
    "oom_killed_bool": "1 when the kernel killed it for its memory limit, by the word of its cgroup or of the kubelet",
    "time_to_kill_s": "from the start of the allocation until its end; median of three on podman",
    "oom_score_adj": "the container's own /proc/self/oom_score_adj: set by the kubelet, or by its formula in its stead",
    "exit_code": "of the container: 137 is 128 + SIGKILL",
    "schema_ok_bool": "1 when kubernetes-validate --strict accepts the Pod with both figures as written",
    "refused_bool": "1 when the system (API server, or podman) refused the Pod with both figures as written",
    "dies_first_bool": "1 when the kernel killed this one where both ran under one limit that both together exceed",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(backend=CLUSTER, binaries=("kubectl",), cluster=True, unmeasured=("dies_first_bool",)),
        api.Needs(backend=PODMAN, stand_in_for=CLUSTER, binaries=("podman", "runc", "debootstrap"), memory_gb=4),
    ]


def run(params: Params, ctx: api.Context) -> None:
    measure = memory_cluster.measured if ctx.backend == CLUSTER else memory_pods.measured
    pairs = [point.pair for point in ctx.points]
    for point, outcome in zip(ctx.points, measure(pairs, params.image, params.overshoot, ctx), strict=True):
        spread = timing.spread(outcome.seconds)
        ctx.record(point, {**outcome.metrics, "time_to_kill_s": spread.p50}, {"time_to_kill_s": spread}, outcome.note)
