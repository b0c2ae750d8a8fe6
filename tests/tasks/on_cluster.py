"""Day 2's kinds run in this process as on a cluster, and objects as kubectl shows them."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks import api

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "plans" / "week01" / "day02" / "k8s-gpu-demo.yaml"
NODE = {
    "metadata": {"name": "minikube"},
    "spec": {},
    "status": {
        "allocatable": {"cpu": "16", "nvidia.com/gpu": "1"},
        "addresses": [{"type": "InternalIP", "address": "192.168.49.2"}, {"type": "Hostname", "address": "minikube"}],
    },
}


def items(*found: Any) -> str:
    return json.dumps({"kind": "List", "items": found})


def pod(name: str, phase: str, node: str = "", **status: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True" if node else "False"}]
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase, "conditions": conditions, **status}}


def measured(kind: ModuleType, params: dict[str, Any], points: list[dict[str, Any]], folder: Path) -> list[Any]:
    """The rows of a kind run in this process as on a cluster; the day's manifest is in its day's folder."""
    chosen = kind.Params.model_validate(params)
    native = kind.needs(chosen)[0]
    for name in ("day", "out", "scratch"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "day" / MANIFEST.name).write_bytes(MANIFEST.read_bytes())
    ctx = api.Context(
        day=folder / "day", scratch=folder / "scratch", settings={}, out=folder / "out", spec="test",
        points=[kind.Point.model_validate(point) for point in points], backend=native.backend, tier=native.tier,
    )  # fmt: skip
    kind.run(chosen, ctx)
    return api.read_rows(ctx.out / "rows.jsonl", "test")
