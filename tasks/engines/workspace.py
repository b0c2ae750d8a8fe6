"""One network built by TensorRT under several workspace limits: which tactics does it choose, and does it matter?"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tasks import api
from tasks.engines import pictures, script, tensorrt
from tasks.models import digits


class Params(api.Params):
    network: digits.Network = "cnn224"
    batch: int = 8
    budget_s: float = 2.0


class Point(api.Params):
    workspace_mb: int = 1024


METRICS: Mapping[str, str] = {
    "latency_p50_ms": "median time of one batch",
    "latency_p95_ms": "95th percentile of the same batches",
    "throughput_samples_s": "images per second of one closed loop",
    "tactic_ids": "different tactics in the engine; which they are is in tactics.json",
    "tactic_changes": "layers whose tactic is not the one chosen with the largest workspace",
    "build_time_s": "from the ONNX file to the serialized engine",
}
LARGEST_MB = 1024


def needs(params: Params) -> Sequence[api.Needs]:
    return [pictures.TENSORRT]  # OpenVINO has no workspace limit and tells no tactics


def run(params: Params, ctx: api.Context) -> None:
    given = pictures.prepare(params.network, ctx)
    told: dict[int, list[dict[str, str]]] = {}
    for limit in sorted({LARGEST_MB, *(point.workspace_mb for point in ctx.points)}, reverse=True):
        plan = given.plan(ctx.scratch, workspace_mb=limit)
        began = time.perf_counter()
        blob = tensorrt.serialize(plan)
        built_s = time.perf_counter() - began
        engine = tensorrt.load(blob, plan)
        told[limit] = [{"layer": str(one["Name"]), "tactic": tactic(one)} for one in tensorrt.layers(engine.engine)]
        for point in (point for point in ctx.points if point.workspace_mb == limit):
            pictures.agree(engine, given, params.batch)
            metrics, latency = pictures.clock(engine, given, params.batch, params.budget_s)
            metrics |= {
                "tactic_ids": len({layer["tactic"] for layer in told[limit]}),
                "tactic_changes": script.tactic_changes(told[limit], told[LARGEST_MB]),
                "build_time_s": built_s,
            }
            ctx.record(point, metrics, {"latency_p50_ms": latency}, f"{len(told[limit])} layers, see tactics.json")
    (ctx.out / "tactics.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def tactic(layer: Mapping[str, Any]) -> str:
    """The tactic of a layer as the inspector names it; TensorRT gives a name or, for its own kernels, a number."""
    return str(layer.get("TacticName") or layer.get("TacticValue") or "")
