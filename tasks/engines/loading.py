"""An engine built from ONNX against the same engine deserialized: when is it there, how slow is the first batch?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tasks import api
from tasks.engines import pictures
from tasks.models import digits
from tasks.services import timing

ROOT = Path(__file__).parents[2]


class Params(api.Params):
    network: digits.Network = "cnn224"
    batch: int = 8
    starts: int = 5  # fresh processes for each point


class Point(api.Params):
    start: Literal["build", "deserialize"] = "deserialize"


METRICS: Mapping[str, str] = {
    "deserialize_ms": "in a fresh process: from asking for the engine to having it, by this start; no imports",
    "first_batch_ms": "the first batch after that",
    "steady_p50_ms": "median of the batches that follow",
    "engine_size_kb": "the file that is deserialized, 10^3 bytes",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [pictures.TENSORRT, pictures.OPENVINO]


def run(params: Params, ctx: api.Context) -> None:
    given = pictures.prepare(params.network, ctx)
    blob = ctx.scratch / "kept.engine"
    blob.write_bytes(pictures.BACKENDS[ctx.backend].build(given.plan(ctx.scratch)).blob())
    for point in ctx.points:
        source = given.onnx if point.start == "build" else blob
        starts = [begin(ctx.backend, point.start, source, params, given) for _ in range(params.starts)]
        ready, first, steady = (timing.spread([one[at] for one in starts]) for at in range(3))
        metrics = {
            "deserialize_ms": ready.p50,
            "first_batch_ms": first.p50,
            "steady_p50_ms": steady.p50,
            "engine_size_kb": blob.stat().st_size / 1e3,
        }
        ctx.record(point, metrics, {"deserialize_ms": ready, "first_batch_ms": first}, f"{params.starts} processes")


def begin(
    backend: str, start: str, source: Path, params: Params, given: pictures.Pictures
) -> tuple[float, float, float]:
    """Milliseconds to the engine, of its first batch and of a later one, in a new process. UserError when it fails."""
    import numpy

    shown, answers = source.with_name("shown.npy"), source.with_name("answers.npy")
    numpy.save(shown, given.batch(params.batch))
    numpy.save(answers, given.torch(given.batch(params.batch)))
    argv = [
        sys.executable, "-m", "tasks.engines.load_child", backend, start, str(source), params.network, str(shown),
        str(answers),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise api.UserError(f"{backend} did not start: {done.stderr.strip().splitlines()[-1]}", where=source.name)
    ready, first, steady = map(float, json.loads(done.stdout.splitlines()[-1]))
    return ready, first, steady
