"""The Horizontal Pod Autoscaler's decision as pure functions: samples in, number of replicas out.

Formulas: kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale (algorithm details, scaling behaviour),
and, where the text is silent, pkg/controller/podautoscaler of Kubernetes 1.33 (`replica_calculator.go`,
`horizontal.go`). Times are seconds on the autoscaler's clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TOLERANCE = 0.1  # the controller's default


@dataclass(frozen=True)
class Policy:
    """At most `value` pods, or `value` percent of the pods, may be added or removed in `period_s`."""

    type: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True)
class Rules:
    """How fast to scale in one direction."""

    window_s: float
    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"


# What the API server fills in where a manifest says nothing.
DEFAULT_UP = Rules(0, (Policy("Pods", 4, 15), Policy("Percent", 100, 15)))
DEFAULT_DOWN = Rules(300, (Policy("Percent", 100, 15),))


@dataclass(frozen=True)
class Bounds:
    """How many replicas are allowed, and how fast they may change."""

    least: int
    most: int
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


@dataclass(frozen=True)
class History:
    """What the autoscaler remembers: (time, wanted before stabilization) and (time, change of replicas)."""

    wanted: tuple[tuple[float, int], ...] = ()
    changes: tuple[tuple[float, int], ...] = ()


def wanted(
    current: int,
    samples: Sequence[float | None],
    target: float,
    *,
    assumed_low: float | None = None,
    tolerance: float = TOLERANCE,
) -> int:
    """ceil(replicas × metric / target), `current` while the ratio is within the tolerance of 1.

    One sample for each pod; None for a pod without one (not ready yet). Such pods count as 0 when the others ask for
    more, so that pods on their way damp the next step; when the others ask for fewer they count as `assumed_low`
    (a Pods metric: the target), or not at all (CPU). A ratio that changes sides because of them changes nothing.
    """
    known = [sample for sample in samples if sample is not None]
    if not known:
        return current
    ratio = sum(known) / len(known) / target
    assumed = 0.0 if ratio > 1 else assumed_low
    filled = known if assumed is None else [assumed if sample is None else sample for sample in samples]
    damped = sum(filled) / len(filled) / target
    if round(abs(damped - 1), 9) <= tolerance or (damped - 1) * (ratio - 1) < 0:
        return current
    replicas = ceiling(damped * len(filled))
    return current if (replicas - current) * (damped - 1) < 0 else replicas


def ceiling(value: float) -> int:
    """The next whole number; 3.0000000001 is 3, for it comes from adding up floats."""
    return math.ceil(round(value, 9))


def decide(current: int, wanted: int, bounds: Bounds, history: History, now: float) -> tuple[int, History]:
    """The replicas to ask for now, and the history that the next decision needs."""
    stable = stabilized(current, wanted, bounds, history, now)
    allowed = max(bounds.least, min(bounds.most, limited(current, stable, bounds, history, now)))
    changes = ((now, allowed - current),) if allowed != current else ()
    return allowed, History((*history.wanted, (now, wanted)), (*history.changes, *changes))


def stabilized(current: int, wanted: int, bounds: Bounds, history: History, now: float) -> int:
    """Up only to the lowest, down only to the highest of what was wanted within the direction's window."""
    lowest = min([wanted, *(old for at, old in history.wanted if at > now - bounds.up.window_s)])
    highest = max([wanted, *(old for at, old in history.wanted if at > now - bounds.down.window_s)])
    return min(max(current, lowest), highest)


def limited(current: int, stable: int, bounds: Bounds, history: History, now: float) -> int:
    """`stable`, or as far towards it as the direction's policies let the replicas go."""
    if stable > current:
        return min(stable, max(current, limit(current, bounds.up, history, now, up=True)))
    if stable < current:
        return max(stable, min(current, limit(current, bounds.down, history, now, up=False)))
    return current


def limit(current: int, rules: Rules, history: History, now: float, *, up: bool) -> int:
    """The furthest count that the rules' policies allow from what there was when each policy's period began."""
    if rules.select == "Disabled" or not rules.policies:
        return current
    reached = [reach(policy, start(current, policy, history, now), up) for policy in rules.policies]
    return max(reached) if up == (rules.select == "Max") else min(reached)


def start(current: int, policy: Policy, history: History, now: float) -> int:
    """The replicas when the policy's period began."""
    return current - sum(change for at, change in history.changes if at > now - policy.period_s)


def reach(policy: Policy, start: int, up: bool) -> int:
    """How far a policy goes from `start` replicas; percentages reach to the next whole replica outwards."""
    if policy.type == "Pods":
        return start + policy.value if up else start - policy.value
    factor = 1 + policy.value / 100 if up else 1 - policy.value / 100
    return ceiling(start * factor) if up else math.floor(round(start * factor, 9))
