"""Targets for a checker: a Triton that is being asked, a recorded vLLM under load, a learner's own exporter."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from urllib.request import urlopen

from tasks.api import UserError
from tasks.services import process

# /metrics of vLLM 0.32.0 (tiny model, CPU), twice a second: idle, 120 requests at 24 at a time, idle
RECORDING = Path(__file__).with_name("recordings") / "vllm-0.32.json.gz"
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
def vllm() -> Iterator[str]:
    """The metrics address of a recorded vLLM: every scrape gets the next page of its load, at the end the last again.

    A real vLLM takes longer to start than a check may.
    """
    pages: list[str] = json.loads(gzip.decompress(RECORDING.read_bytes()))
    left = chain(pages, repeat(pages[-1]))

    class Replay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = next(left).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer((process.LOOPBACK, 0), Replay) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{process.LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


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
