"""The tactic script builds under three workspace limits and per tactic source, or refuses clearly without TensorRT.

The script is always rehearsed on `tensorrt_stage`; where TensorRT and a GPU are there, it is run for real as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tasks import api
from tasks.api import Verdict
from tasks.checks import tensorrt_stage

WORKSPACES_MB = (64, 256, 1024)
SOURCES = ("all", "no_cublas", "no_cudnn", "none")


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="Python", environment="torch", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return Verdict(False, f"{file.name} is missing or empty")
    if problem := tensorrt_stage.without_tensorrt(file, work.scratch, ["--onnx", "absent.onnx"]):
        return Verdict(False, problem)
    write_model(work.scratch / "model.onnx")
    log = work.scratch / "calls.jsonl"
    if problem := wrong_run(file, work.scratch, tensorrt_stage.environment(log)) or wrong_calls(log):
        return Verdict(False, problem)
    if not tensorrt_stage.has_tensorrt():
        return Verdict(
            True, "rehearsed without TensorRT: calls and output are right, nothing measured", {"real": False}
        )
    if problem := wrong_run(file, work.scratch, {}):
        return Verdict(False, problem)
    return Verdict(True, "built and timed by TensorRT; its calls were rehearsed before", {"real": True})


def wrong_run(file: Path, scratch: Path, environment: Mapping[str, str]) -> str:
    """What is wrong with how the script ran and with what it wrote; empty when nothing is."""
    out = scratch / "tactics.jsonl"
    out.unlink(missing_ok=True)
    model, engines = scratch / "model.onnx", scratch / "engines"
    done = tensorrt_stage.execute(
        file, ["--onnx", str(model), "--out", str(out), "--engines", str(engines)], environment
    )
    if done.returncode:
        return f"with TensorRT it ended with {done.returncode}: {tensorrt_stage.last_line(done.stderr)}"
    return wrong_rows(out)


def write_model(file: Path) -> None:
    """A small graph with the BERT's inputs: both multiplied with weights, batch and sequence dynamic."""
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", 3])
    table = numpy_helper.from_array(numpy.random.default_rng(0).normal(size=(64, 3)).astype("float32"), "table")
    axis = numpy_helper.from_array(numpy.array([2], "int64"), "axis")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Unsqueeze", ["attention_mask", "axis"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["words", "mask"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, [logits], [table, axis])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


def wrong_rows(out: Path) -> str:
    """What is wrong with the JSON lines that the script wrote; empty when nothing is."""
    try:
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        limits = {row["workspace_mb"] for row in rows}
        sources = {row["tactic_sources"] for row in rows}
        bare = [row for row in rows if not (row["latency_p50_ms"] > 0 and row["build_time_s"] > 0 and row["tactics"])]
        nameless = [row for row in rows for layer in row["tactics"] if not (layer["layer"] and "tactic" in layer)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{out.name} is not what was asked for: {error!r}"
    if absent := sorted(set(WORKSPACES_MB) - limits):
        return f"{out.name} has no row for a workspace of {absent} MB"
    if lacking := sorted(set(SOURCES) - sources):
        return f"{out.name} has no row for the tactic sources {', '.join(lacking)}"
    return f"{out.name} has a row without latency, build time or tactic list" if bare or nameless else ""


def wrong_calls(log: Path) -> str:
    """What the script did not ask TensorRT for; empty when nothing is amiss."""
    built = tensorrt_stage.calls(log, "build_serialized_network")
    limits = {call["workspace"] for call in built}
    if absent := [size for size in WORKSPACES_MB if size << 20 not in limits]:
        return f"it built nothing with a workspace pool of {absent} MB, whatever it wrote"
    masks = {call["sources"] for call in built} - {-1}
    if masks != {0b11111, 0b11100, 0b11011, 0}:
        return f"its tactic source masks are {sorted(masks)}, not those of all, no_cublas, no_cudnn and none"
    return ""
