"""The memory experiment on a cluster: the API server judges the Pods, a kubelet runs and reports them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tasks import api
from tasks.kubernetes.memory_pod import Outcome, Pair, allocate, pod, schema_ok, tale
from tasks.services import cluster

PATIENCE_S = 600.0  # the first pull of the image
LOOK_S = 0.5


def measured(pairs: Sequence[Pair], image: str, overshoot: float, ctx: api.Context) -> Iterator[Outcome]:
    with cluster.namespace() as space:
        for number, pair in enumerate(pairs):
            yield alone(pair, image, overshoot, space, f"oom-{number}")


def alone(pair: Pair, image: str, overshoot: float, space: cluster.Namespace, name: str) -> Outcome:
    """Ask for the pair as written; where that is refused, run what the refusal leaves: the limit alone."""
    script = allocate(pair, overshoot, 1)
    written = pod(name, pair, image, script)
    refusal = refused(written, space)
    if not refusal:
        running = pair
    else:
        running = Pair(pair.limits, pair.limits)
        space.apply(pod(name, running, image, script))
    state = terminated(name, space)
    told = tale(space.kubectl("logs", name))
    metrics = {
        "oom_killed_bool": state["reason"] == "OOMKilled", "oom_score_adj": told.adj, "exit_code": state["exitCode"],
        "schema_ok_bool": schema_ok(written), "refused_bool": bool(refusal),
    }  # fmt: skip
    note = "times of the kubelet, in whole seconds"
    if refusal:
        note += f"; as written: {refusal}; so it ran with the limit alone"
    return Outcome(metrics, (lasted(state),), note)


def refused(made: Mapping[str, Any], space: cluster.Namespace) -> str:
    """The API server's words when it refuses an object as invalid; "" when it took it. Other errors are raised."""
    try:
        space.apply(made)
    except api.UserError as error:
        if "is invalid" in error.what:
            return error.what
        raise
    return ""


def terminated(name: str, space: cluster.Namespace) -> dict[str, Any]:
    """How the Pod's container ended. Raises UserError with the state that it was last seen in."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        status = space.get(f"pod/{name}").get("status", {})
        state: dict[str, Any] = next((one["state"] for one in status.get("containerStatuses", [])), {})
        if "terminated" in state:
            found: dict[str, Any] = state["terminated"]
            return found
        if time.monotonic() > deadline:
            raise api.UserError(f"Pod {name} did not end within {PATIENCE_S:.0f} s: {state or status.get('phase')}")
        time.sleep(LOOK_S)


def lasted(state: Mapping[str, Any]) -> float:
    start, end = (datetime.fromisoformat(str(state[key])) for key in ("startedAt", "finishedAt"))
    return (end - start).total_seconds()
