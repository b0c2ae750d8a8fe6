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
echo start $(date +%s.%N)
head -c {size} /dev/zero | tail > /dev/null
code=$?
echo end $(date +%s.%N)
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
    """What a container wrote; times in s of its clock, `end` and `kills` None when it did not live to write them."""

    adj: int
    start: float
    end: float | None
    kills: int | None


def pod(name: str, pair: Pair, image: str, script: str) -> dict[str, Any]:
    """A Pod with one container, "hog", that runs a shell script once."""
    resources = {"requests": {"memory": pair.requests}, "limits": {"memory": pair.limits}}
    hog = {"name": "hog", "image": image, "command": ["sh", "-c", script], "resources": resources}
    spec = {"restartPolicy": "Never", "containers": [hog]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def allocate(pair: Pair, overshoot: float) -> str:
    return ALLOCATE.format(size=round(pair.limit_bytes * overshoot))


def tale(text: str) -> Tale:
    """Read a container's output. Raises ValueError when it did not even start to allocate."""
    found = dict(re.findall(r"^(adj|start|end|oom_kill) (\S+)$", text, re.MULTILINE))
    if not {"adj", "start"} <= found.keys():
        raise ValueError(f"the container wrote {text!r}")
    end, kills = found.get("end"), found.get("oom_kill")
    return Tale(int(found["adj"]), float(found["start"]), float(end) if end else None, int(kills) if kills else None)


def schema_ok(made: dict[str, Any]) -> bool:
    return not list(schemas.problems(Document(made, None)))
