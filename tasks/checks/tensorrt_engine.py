"""A serialized TensorRT engine: it loads on this GPU, takes the shapes served, and answers like the ONNX file."""

from __future__ import annotations

from pathlib import Path

from tasks import api
from tasks.api import Verdict
from tasks.engines import compare, tensorrt
from tasks.engines.contract import Build
from tasks.models import reviews
from tasks.onnx import graph

SMALLEST_COSINE = 0.999


class Params(api.Params):
    onnx: str = "bert.onnx"  # beside the engine: what it was built from
    smallest_batch: int = 1
    largest_batch: int = 16
    shortest: int = 32
    longest: int = 512
    rebuild: bool = False  # for a fixture: an engine fits one GPU model and one TensorRT version, so none can be kept


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="TensorRT", environment="torch", modules=("tensorrt",), gpus=1, memory_gb=2)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.stat().st_size:
        return Verdict(False, f"{file.name} is missing or empty")
    source = file.with_name(params.onnx)
    if not source.is_file():
        return Verdict(False, f"{params.onnx}, which it is compared with, is not there")
    try:
        blob = tensorrt.serialize(Build(source, work.scratch)) if params.rebuild else file.read_bytes()
        engine = tensorrt.deserialize(blob)
    except api.UserError as error:
        return Verdict(False, str(error))
    ends = (params.smallest_batch, params.shortest), (params.largest_batch, params.longest)
    if not tensorrt.covers(engine, dict.fromkeys(graph.INPUTS, ends)):
        shapes = f"batch {params.smallest_batch}-{params.largest_batch}, length {params.shortest}-{params.longest}"
        return Verdict(False, f"no optimization profile covers {shapes}")
    return compared(tensorrt.TensorRtEngine(engine, file.stat().st_size, "as built"), source, params, work.seed)


def compared(engine: tensorrt.TensorRtEngine, source: Path, params: Params, seed: int) -> Verdict:
    """The verdict on the logits, against the ONNX file in ONNX Runtime at the corners of the shapes."""
    reference, found = graph.runtime(source), {}
    for batch in (params.smallest_batch, params.largest_batch):
        for length in (params.shortest, params.longest):
            texts = reviews.texts(batch, length, seed=seed, test=True)
            ours = engine.logits(texts.ids, texts.mask)
            found[f"{batch}x{length}"] = compare.cosine(ours, reference(texts.ids, texts.mask))
    worst = min(found, key=lambda shape: found[shape])
    ok = found[worst] > SMALLEST_COSINE
    return Verdict(ok, f"cosine with ONNX Runtime at least {found[worst]:.5f} (batch x length {worst})", found)
