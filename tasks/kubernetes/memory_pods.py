"""The memory experiment on this machine: podman plays the Pods, the kernel enforces their limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks import api
from tasks.kubernetes.memory_pod import MIB, Outcome, Pair, allocate, pod, schema_ok, tale
from tasks.services.pods import Pods, first_ended, pods, shared_limit

GO = "/go"
WAIT = f"until [ -s {GO}/go ]; do sleep 0.02; done\n"  # until oom_score_adj is set from outside
# Holds memory: what `tail` has read stays with it while the other end of the pipe is open.
HOLD = (
    WAIT
    + """mkfifo /tmp/pipe
(head -c {size} /dev/zero; sleep 300) > /tmp/pipe &
tail < /tmp/pipe > /dev/null
"""
)
HELD, SHARED = 0.9, 0.8  # of its own limit each container takes; of both limits together they share
TURNS = 3  # the shell outlives its child: the same container is filled again
PATIENCE_S = 180.0


def measured(pairs: Sequence[Pair], image: str, overshoot: float, ctx: api.Context) -> Iterator[Outcome]:
    """Each pair by itself, and which of the day's two pairs the kernel takes first."""
    with pods(ctx.scratch, ctx.say) as engine:
        first = dies_first((Pair("1Gi", "512Mi"), Pair("512Mi", "1Gi")), engine, ctx.scratch / "shared")
        ctx.say(f"under a limit that both share, the container of {first.requests}/{first.limits} is killed first")
        for number, pair in enumerate(pairs):
            outcome = alone(pair, overshoot, engine, ctx.scratch / f"alone-{number}")
            yield replace(outcome, metrics={**outcome.metrics, "dies_first_bool": pair == first})


def alone(pair: Pair, overshoot: float, engine: Pods, gate: Path) -> Outcome:
    """Allocate more than the limit and see what becomes of it. Raises UserError when the limit is not in force."""
    name = f"infra90-oom-{os.getpid()}"
    written = pod(name, pair, engine.image, "true")
    refusal = engine.refusal(written)
    made = gated(pod(name, pair.in_force, engine.image, WAIT + allocate(pair, overshoot, TURNS)), gate)
    container = f"{name}-hog"
    with engine.played(made):
        adjust(pid := engine.pid(container), pair)
        open_gate(gate)
        first_ended([pid], PATIENCE_S)
        code = engine.exit_code(container)
        told = tale(engine.said(container))
    if told.kills < TURNS:
        raise api.UserError(
            f"{overshoot:g} times the limit of {pair.limits} was allocated {TURNS} times and {told.kills} times killed",
            where="podman play kube", remedy="run as root, or delegate the memory controller to your user",
        )  # fmt: skip
    metrics = {
        "oom_killed_bool": 1.0, "oom_score_adj": told.adj, "exit_code": code,
        "schema_ok_bool": schema_ok(written), "refused_bool": bool(refusal),
    }  # fmt: skip
    return Outcome(metrics, told.seconds, note(pair, refusal))


def note(pair: Pair, refusal: str) -> str:
    taken = f"podman refused it as written: {refusal}" if refusal else "podman took it as written"
    if not pair.refusal:
        return taken
    return f"{taken}; an API server would not ({pair.refusal}), so it ran with the limit alone"


def adjust(pid: int, pair: Pair) -> None:
    """What the kubelet has the runtime do; the container's later processes inherit it."""
    capacity = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    Path(f"/proc/{pid}/oom_score_adj").write_text(str(pair.in_force.oom_score_adj(capacity)), encoding="ascii")


def gated(made: dict[str, Any], gate: Path) -> dict[str, Any]:
    """The Pod with a folder of this machine in which `open_gate` lets its containers begin."""
    gate.mkdir()
    spec = made["spec"]
    mount = [{"name": "go", "mountPath": GO, "readOnly": True}]
    containers = [{**one, "volumeMounts": mount} for one in spec["containers"]]
    volumes = [{"name": "go", "hostPath": {"path": str(gate), "type": "Directory"}}]
    return {**made, "spec": {**spec, "containers": containers, "volumes": volumes}}


def open_gate(gate: Path) -> None:
    (gate / "go").write_text("go", encoding="ascii")


def dies_first(pairs: tuple[Pair, Pair], engine: Pods, gate: Path) -> Pair:
    """Both hold 90% of their own limits under 80% of the sum: neither is at its own when the kernel must choose."""
    name = f"infra90-first-{os.getpid()}"
    made = pod(name, pairs[0], engine.image, "")
    made["spec"]["containers"] = [holding(f"hog{number}", pair, made) for number, pair in enumerate(pairs)]
    with engine.played(gated(made, gate)):
        pids = [engine.pid(f"{name}-hog{number}") for number in range(len(pairs))]
        for pid, pair in zip(pids, pairs, strict=True):
            adjust(pid, pair)
        shared_limit(pids[0], round(sum(pair.limit_bytes for pair in pairs) * SHARED))
        open_gate(gate)
        return pairs[first_ended(pids, PATIENCE_S)]


def holding(name: str, pair: Pair, made: Mapping[str, Any]) -> dict[str, Any]:
    alike = made["spec"]["containers"][0]
    resources = {"requests": {"memory": pair.in_force.requests}, "limits": {"memory": pair.limits}}
    size = round(pair.limit_bytes * HELD / MIB) * MIB
    return {**alike, "name": name, "resources": resources, "command": ["sh", "-c", HOLD.format(size=size)]}
