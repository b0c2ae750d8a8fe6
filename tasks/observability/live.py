"""Live targets for a checker: a Triton that is being asked, and a learner's own exporter."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services import process

MODEL = "mlp"
CONFIG = """
name: "mlp"
backend: "python"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 8, 8 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 8, 2 ] }
instance_group { count: 1 kind: KIND_CPU }
"""
SUMMARIES = "--metrics-config=summary_latencies=true"  # quantiles beside the sums of times


@contextmanager
def triton(scratch: Path, seed: int) -> Iterator[str]:
    """The metrics address of a Triton whose one small model gets a steady trickle of requests."""
    import numpy

    from tasks.services import model_repository
    from tasks.services import triton as service
    from tasks.triton.client import Client
    from tasks.triton.onnx_models import Mlp

    onnx = scratch / "mlp.onnx"
    Mlp(32, 1, seed).save(onnx)
    model_repository.add_onnx_model(scratch / "models", MODEL, CONFIG, onnx)
    rows = numpy.random.default_rng(seed).random((1, 8, 8), dtype=numpy.float32)
    ended = threading.Event()
    with service.serve(scratch / "models", scratch / "triton.log", args=[SUMMARIES]) as server:
        client = Client(server.grpc)

        def ask() -> None:
            while not ended.wait(0.02):
                client.infer(MODEL, {"x": rows})

        load = threading.Thread(target=ask)
        load.start()
        try:
            yield server.metrics
        finally:
            ended.set()
            load.join()
            client.close()


@contextmanager
def exporter(script: Path, scratch: Path) -> Iterator[str]:
    """The address of an exporter script, started with `--port`. UserError with its last words if it does not run."""
    if not script.is_file() or not script.read_bytes().strip():
        raise UserError("is missing or empty", where=script.name)
    address = f"{process.LOOPBACK}:{(port := process.free_port())}"
    argv = [sys.executable, str(script), "--port", str(port)]
    with process.serve(argv, log=scratch / "exporter.log", ready=lambda: bool(page(address)), timeout_s=20):
        yield address


def page(address: str) -> str:
    """A target's /metrics in Prometheus's text format."""
    with urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode())
