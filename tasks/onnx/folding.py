"""The same network exported with and without constant folding: nodes, initializers, bytes, and both graphs drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tasks import api
from tasks.models import digits
from tasks.onnx import drawing, images


class Params(api.Params):
    network: digits.Network = "cnn"


class Point(api.Params):
    constant_folding: Literal["off", "on"] = "on"


METRICS: Mapping[str, str] = {
    "node_count": "nodes of the exported graph",
    "initializer_count": "constant tensors stored in it",
    "file_size_bytes": "size of the ONNX file",
    "runtime_node_count": "nodes that ONNX Runtime has left after its own optimisations",
    "mlp_node_count": "the same count of the curriculum's four-layer MLP, which has nothing to fold",
    "max_abs_error": "largest difference of a logit from torch",
}
TOLERANCE = 1e-4


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=1)]


def run(params: Params, ctx: api.Context) -> None:
    import onnx

    model, _ = digits.load(params.network, ctx.seed, ctx.say)
    plain, _ = digits.load("mlp", ctx.seed, ctx.say)
    shown = digits.fit(digits.split(ctx.seed)[1].images[:32], params.network)
    for point in ctx.points:
        folding = point.constant_folding == "on"
        file = ctx.scratch / f"folding-{point.constant_folding}.onnx"
        images.export(model, file, params.network, folding=folding)
        images.export(plain, ctx.scratch / "mlp.onnx", "mlp", folding=folding)
        error = images.agree(images.runtime(file)(shown), digits.torch_logits(model)(shown), TOLERANCE, file.name)
        graph = onnx.load(file).graph
        picture = f"graph-folding-{point.constant_folding}.svg"
        (ctx.out / picture).write_text(drawing.svg(graph), encoding="utf-8")
        metrics = {
            "node_count": len(graph.node),
            "initializer_count": len(graph.initializer),
            "file_size_bytes": file.stat().st_size,
            "runtime_node_count": runtime_nodes(file),
            "mlp_node_count": len(onnx.load(ctx.scratch / "mlp.onnx").graph.node),
            "max_abs_error": error,
        }
        ctx.record(point, metrics, note=f"{', '.join(node.op_type for node in graph.node)}; drawn in {picture}")


def runtime_nodes(file: Path) -> int:
    """Nodes of the graph that ONNX Runtime makes of the file at its level `extended`, which it can still write."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file.with_suffix(".optimized.onnx"))
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return len(onnx.load(options.optimized_model_filepath).graph.node)
