"""The part of `k8s-gpu-demo.yaml` that asks for a GPU: a Pod, or the template of a Deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.kubernetes.lines import Document, documents
from tasks.kubernetes.pods_seen import GPU
from tasks.kubernetes.quantities import amount

TEMPLATE = ("spec", "template")


@dataclass(frozen=True)
class Workload:
    """A document with a Pod in it; `path` leads to the part that has the Pod's metadata and spec."""

    part: Document
    path: tuple[str, ...]

    @property
    def pod(self) -> Any:
        found = self.part.data
        for step in self.path:
            found = found[step]
        return found

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.pod.get("metadata", {}).get("labels") or {})

    @property
    def containers(self) -> list[dict[str, Any]]:
        return list(self.pod["spec"]["containers"])

    @property
    def gpus(self) -> int:
        """GPUs that its containers are limited to, together."""
        return sum(int(amount(one.get("resources", {}).get("limits", {}).get(GPU, 0))) for one in self.containers)


def workloads(parts: Sequence[Document]) -> list[Workload]:
    """Pods and Deployments, in the file's order."""
    paths: dict[str, tuple[str, ...]] = {"Pod": (), "Deployment": TEMPLATE}
    return [Workload(part, paths[part.kind]) for part in parts if part.kind in paths]


def gpu_workload(file: Path) -> Workload:
    """The first workload of a file with a GPU limit; UserError when there is none."""
    try:
        found = [one for one in workloads(documents(file)) if one.gpus]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"does not describe a Pod ({type(error).__name__}: {error})"
        raise UserError(what, where=str(file), remedy=f"prove it with: run check {file.parent.name}") from error
    if not found:
        raise UserError(f"no Pod or Deployment in it has a limit of {GPU}", where=str(file))
    return found[0]
