"""The kind `engine_build`: what building an engine costs and what the engine is worth, one question at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tasks import api
from tasks.engines import batches, compare, gpus, points, script, start

Params, Point, METRICS = points.Params, points.Point, points.METRICS

MEASURES: Mapping[points.Measure, Callable[[points.Params, api.Context], None]] = {
    "workspace": script.workspace,
    "tactics": script.tactics,
    "cold_start": start.run,
    "across_gpus": gpus.run,
    "batch_load": batches.run,
    "runtimes": compare.runtimes,
    "precisions": compare.precisions,
}
TENSORRT = api.Needs(
    backend="TensorRT", environment="torch", modules=("tensorrt",), gpus=1, memory_gb=4, settings=("model",)
)
OPENVINO = api.Needs(backend="OpenVINO", stand_in_for="TensorRT", environment="torch", memory_gb=2, settings=("model",))
# OpenVINO has no workspace limit, no tactic sources and no notion of another GPU: there it is TensorRT or nothing
HAS_EQUIVALENT = ("cold_start", "batch_load", "runtimes", "precisions")


def needs(params: points.Params) -> Sequence[api.Needs]:
    if params.measure == "across_gpus":
        return [replace(TENSORRT, gpus=2, gpu_models=2)]
    return [TENSORRT, OPENVINO] if params.measure in HAS_EQUIVALENT else [TENSORRT]


def run(params: points.Params, ctx: api.Context) -> None:
    MEASURES[params.measure](params, ctx)
