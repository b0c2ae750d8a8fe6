"""Proves a config.pbtxt: it parses, fits the model's ONNX file, and a real Triton serves it with the same settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.triton import config as pbtxt
from tasks.triton import repository

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(int64)": "TYPE_INT64"}


class Params(Base):
    models: str = "models"  # the folder of models beside the file
    model: str = "digits_onnx"
    tolerance: float = 1e-4


def needs(params: Params) -> Needs:
    return Needs("Triton", environment="triton", memory_gb=1)


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """Parse, compare with the graph, serve, compare with what the server says."""
    try:
        text = pbtxt.read(file)
        config = pbtxt.parse(text, file.name)
        problems = [f"{file.name}:{line}: {what}" for line, what in misfits(config, text, onnx_file(file, params))]
        if problems:
            return Verdict(False, "; ".join(problems), {"problems": problems})
        return serve(file, config, params, work)
    except UserError as error:
        return Verdict(False, str(error))


def onnx_file(file: Path, params: Params) -> Path:
    """The first version's file; UserError when there is none."""
    files = repository.onnx_files(file.parent / params.models / params.model)
    if not files:
        raise UserError("there is no <version>/model.onnx to compare with", where=f"{params.models}/{params.model}")
    return files[min(files)]


def misfits(config: Any, text: str, onnx: Path) -> Iterator[tuple[int, str]]:
    """Where the configuration and the graph differ in names, types or dims: (line, what)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    for field, graph in (("input", session.get_inputs()), ("output", session.get_outputs())):
        line = pbtxt.find_line(text, rf"(?m)^\s*{field}\b")
        told = {tensor.name: tensor for tensor in getattr(config, field)}
        known = {tensor.name: tensor for tensor in graph}
        if set(told) != set(known):
            yield line, f"{field} {sorted(told)}, but model.onnx has {sorted(known)}"
            continue
        for name, tensor in known.items():
            line = pbtxt.find_line(text, rf'name:\s*"{name}"')
            yield from ((line, what) for what in differences(told[name], tensor, batched=config.max_batch_size > 0))


def differences(told: Any, tensor: Any, *, batched: bool) -> Iterator[str]:
    """A tensor of the configuration against the graph's; the graph's named or unknown dims fit any -1."""
    from tritonclient.grpc.model_config_pb2 import DataType

    said, wanted = DataType.Name(told.data_type), TYPES.get(tensor.type, tensor.type)
    if said != wanted:
        yield f"{told.name} is {said}, but model.onnx has {wanted}"
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape]
    dims, after = (dims[1:], " after the batch") if batched else (dims, "")
    if list(told.dims) != dims:
        yield f"{told.name} has dims {list(told.dims)}, but model.onnx has {dims}{after}"


def serve(file: Path, config: Any, params: Params, work: Workspace) -> Verdict:
    """The server's own view of the model must have the file's instances and batching, and its answers must be right."""
    source = repository.Source(
        repository=params.models, model=params.model, config=file.name, tolerance=params.tolerance
    )
    with repository.serve(source, replace(work, day=file.parent), work.scratch / "triton.log") as served:
        live = served.client.server.get_model_config(params.model).config
        worst = repository.check(served, params.tolerance, work.seed)
    wanted, given = settings(config), settings(live)
    if wanted != given:
        changed = [f"{name} {given[name]} instead of {value}" for name, value in wanted.items() if given[name] != value]
        return Verdict(
            False, f"{file.name}: Triton runs it with {', '.join(changed)}", {"file": wanted, "triton": given}
        )
    told = ", ".join(f"{name} {value}" for name, value in given.items())
    return Verdict(True, f"Triton runs it as written ({told}); right within {worst:.1e}", {"triton": given})


def settings(config: Any) -> dict[str, Any]:
    """What the file decides about concurrency: instances, largest batch, preferred sizes and the delay."""
    return {
        "max_batch_size": config.max_batch_size,
        "instances": sum(group.count or 1 for group in config.instance_group) or 1,
        "preferred_batch_size": sorted(config.dynamic_batching.preferred_batch_size),
        "max_queue_delay_microseconds": config.dynamic_batching.max_queue_delay_microseconds,
    }
