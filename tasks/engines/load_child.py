"""One start: build or deserialize an engine, answer batches, print [ready, first, steady] in ms as a JSON list."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from tasks.engines import pictures
from tasks.services import timing

LIBRARIES = {"TensorRT": "tensorrt", "OpenVINO": "openvino"}
STEADY_S = 0.3


def main(backend: str, start: str, source: str, network: Any, shown: str, answers: str) -> None:
    import numpy

    batch, expected = numpy.load(shown), numpy.load(answers)
    importlib.import_module(LIBRARIES[backend])
    maker, file = pictures.BACKENDS[backend], Path(source)
    plan = pictures.plan(network, file, file.parent)
    began = time.perf_counter()
    engine = maker.build(plan) if start == "build" else maker.load(file.read_bytes(), plan)
    ready = time.perf_counter()
    logits = engine.logits(batch)
    answered = time.perf_counter()
    if not pictures.difference(logits, expected) <= pictures.RIGHT:
        raise SystemExit("its first answer differs from torch's")
    later = timing.spread(timing.repeat(engine.logits, [(batch,)], STEADY_S))
    print(json.dumps([(ready - began) * 1000, (answered - ready) * 1000, later.p50]))


if __name__ == "__main__":
    main(*sys.argv[1:])
