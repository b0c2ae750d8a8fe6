"""The Pod of the memory experiment, what its container says, and what Kubernetes makes of its figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tasks.kubernetes import schemas
from tasks.kubernetes.lines import Document
from tasks.kubernetes.quantities import amount

MIB = 2**20
# `tail` keeps a line in memory until it ends, and zeros have no end of line. The shell outlives it to tell the tale.
ALLOCATE = """
echo adj $(cat /proc/self/oom_score_adj)
for turn in $(seq {turns}); do
  echo start $(date +%s.%N)
  head -c {size} /dev/zero | tail > /dev/null
  code=$?
  echo end $(date +%s.%N)
done
for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
  if [ -r $file ]; then grep '^oom_kill ' $file; fi
done
exit $code
"""


@dataclass(frozen=True)
class Pair:
    """A container's memory request and limit."""

    requests: str
    limits: str

    @property
    def in_force(self) -> Pair:
        """What can run: where the API server refuses the request, the limit alone, which then is the request too."""
        return Pair(self.limits, self.limits) if self.refusal else self

    @property
    def refusal(self) -> str:
        """What the API server's validation says of the pair, by its source; "" when it accepts it."""
        resources = {"requests": {"memory": self.requests}, "limits": {"memory": self.limits}}
        return "; ".join(schemas.refusals(resources))

    @property
    def limit_bytes(self) -> int:
        return int(amount(self.limits))

    def oom_score_adj(self, capacity: float) -> int:
        """The kubelet's figure for a Burstable Pod on a node of `capacity` bytes (pkg/kubelet/qos/policy.go)."""
        score = 1000 - int(1000 * amount(self.requests) // capacity)
        return min(max(score, 3), 999)  # above Guaranteed (-997), below BestEffort (1000)


@dataclass(frozen=True)
class Tale:
    """What a container wrote: its oom_score_adj, how long each turn took (s), how often its cgroup counts a kill.

    Where the kernel kills the whole container at once (cgroup v2 under a kubelet) it lives to tell the first alone.
    """

    adj: int
    seconds: tuple[float, ...]
    kills: int


@dataclass(frozen=True)
class Outcome:
    """What one pair came to; `seconds` are the times until the kill, one for each turn."""

    metrics: dict[str, float]
    seconds: tuple[float, ...]
    note: str


def pod(name: str, pair: Pair, image: str, script: str) -> dict[str, Any]:
    """A Pod with one container, "hog", that runs a shell script once."""
    resources = {"requests": {"memory": pair.requests}, "limits": {"memory": pair.limits}}
    hog = {"name": "hog", "image": image, "command": ["sh", "-c", script], "resources": resources}
    spec = {"restartPolicy": "Never", "containers": [hog]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def allocate(pair: Pair, overshoot: float, turns: int) -> str:
    """The script that allocates `overshoot` times the limit, `turns` times."""
    return ALLOCATE.format(size=round(pair.limit_bytes * overshoot), turns=turns)


def tale(text: str) -> Tale:
    """Read a container's output. Raises ValueError when it did not even start to allocate."""
    said = re.findall(r"^(adj|start|end|oom_kill) (\S+)$", text, re.MULTILINE)
    values = {name: [value for one, value in said if one == name] for name in ("adj", "start", "end", "oom_kill")}
    if not values["adj"] or not values["start"]:
        raise ValueError(f"the container wrote {text!r}")
    seconds = tuple(float(end) - float(start) for start, end in zip(values["start"], values["end"], strict=False))
    return Tale(int(values["adj"][0]), seconds, sum(map(int, values["oom_kill"])))


def schema_ok(made: dict[str, Any]) -> bool:
    return not list(schemas.problems(Document(made, None)))
