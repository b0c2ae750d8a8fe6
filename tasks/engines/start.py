"""Cold start with and without an engine cache: each start in a fresh process, as after a deployment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tasks import api
from tasks.engines import subject
from tasks.engines.points import Params
from tasks.services import timing

ROOT = Path(__file__).parents[2]


def run(params: Params, ctx: api.Context) -> None:
    given = subject.prepare(params, ctx)
    for point in ctx.points:
        cache = ctx.scratch / "engine-cache" if point.engine_cache == "on" else None
        if cache:
            cache.mkdir()
            begin(ctx.backend, given.onnx, params, cache)  # fills the cache; not counted
        starts = [begin(ctx.backend, given.onnx, params, cache) for _ in range(params.starts)]
        cold = timing.spread([ready for ready, _ in starts])
        first = timing.spread([request for _, request in starts])
        metrics = {
            "cold_start_ms": cold.p50,
            "first_request_ms": first.p50,
            "cache_bytes": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) if cache else 0,
        }
        ctx.record(point, metrics, {"cold_start_ms": cold, "first_request_ms": first})


def begin(backend: str, onnx: Path, params: Params, cache: Path | None) -> tuple[float, float]:
    """Milliseconds to the engine and of the first request, in a new process. UserError when it fails or errs."""
    argv = [
        sys.executable, "-m", "tasks.engines.start_child", backend, str(onnx), str(cache or ""),
        json.dumps([params.batch, params.seq_len, params.threads]),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise api.UserError(f"{backend} did not start: {done.stderr.strip().splitlines()[-1]}", where=onnx.name)
    ready, request = json.loads(done.stdout.splitlines()[-1])
    return float(ready), float(request)
