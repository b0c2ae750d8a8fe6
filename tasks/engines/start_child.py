"""One cold start: build or load the engine, answer one request, print both times in ms as a JSON list."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

from tasks.engines import subject
from tasks.engines.contract import Build
from tasks.models import reviews
from tasks.onnx import graph

LIBRARIES = {"TensorRT": "tensorrt", "OpenVINO": "openvino", "ONNX Runtime": "onnxruntime"}
TOLERANCE = 5e-2


def main(backend: str, onnx: str, cache: str, shape: str) -> None:
    batch, length, threads = json.loads(shape)
    texts = reviews.texts(batch, length, seed=0, test=True)
    importlib.import_module(LIBRARIES[backend])
    file, folder = Path(onnx), Path(cache) if cache else None
    began = time.perf_counter()
    engine = subject.BACKENDS[backend].build(Build(file, file.parent, cache=folder, threads=threads))
    ready = time.perf_counter()
    logits = engine.logits(texts.ids, texts.mask)
    answered = time.perf_counter()
    subject.agree(lambda ids, mask: logits, graph.runtime(file), texts, TOLERANCE)
    print(json.dumps([(ready - began) * 1000, (answered - ready) * 1000]))


if __name__ == "__main__":
    main(*sys.argv[1:])
