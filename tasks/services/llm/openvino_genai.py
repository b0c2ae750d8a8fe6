"""OpenVINO GenAI as an engine: a compiled graph with continuous batching and a paged KV cache, from a GGUF file."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.services.llm import child, gguf_file, openai_server
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import LENGTH, STOP, Job, Setup, first_token_goes_out


@contextmanager
def serve(model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print) -> Iterator[Endpoint]:
    """Convert, compile and serve until the block ends."""
    with child.serve("openvino_genai", model, setup, folder, say) as server:
        yield server


def run(model: Path, setup: Setup, port: int, _mode: str) -> None:
    pipeline = load(convert(model, setup), setup)
    openai_server.run(Continuous(pipeline), model, setup.name or model.name, port, setup.max_model_len)


def convert(model: Path, setup: Setup) -> Path:
    """The GGUF file that OpenVINO reads: weights in float16, the only plain precision it takes there."""
    return gguf_file.obtain(model, "float16", setup.cache)


def load(file: Path, setup: Setup) -> Any:
    """Read and compile for the CPU. The activations' precision is the device's own choice unless a dtype is given."""
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = max(1, round(setup.kv_gb))  # whole GiB
    scheduler.max_num_seqs = setup.max_batch
    scheduler.dynamic_split_fuse = True
    properties: dict[str, Any] = {}
    if setup.dtype:
        properties["INFERENCE_PRECISION_HINT"] = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}[setup.dtype]
    if setup.threads:
        properties["INFERENCE_NUM_THREADS"] = setup.threads
    return openvino_genai.ContinuousBatchingPipeline(str(file), scheduler, "CPU", properties)


class Continuous:
    """One thread takes in what has arrived, steps the pipeline and passes tokens on."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.arrived = pipeline, queue.SimpleQueue[Job]()
        self.number, self.running = itertools.count(), dict[Job, Any]()
        threading.Thread(target=self.work, daemon=True).start()

    def submit(self, job: Job) -> None:
        self.arrived.put(job)

    def work(self) -> None:
        while True:
            if not self.running:
                self.admit(self.arrived.get())
            while not self.arrived.empty():
                self.admit(self.arrived.get())
            try:
                self.pipeline.step()
                waiting = [job for job in self.running if not job.given]
                for job, handle in list(self.running.items()):
                    self.pass_on(job, handle)
                if any(job.given for job in waiting):
                    first_token_goes_out()
            except RuntimeError as error:
                self.fail(error)

    def admit(self, job: Job) -> None:
        import numpy
        import openvino
        import openvino_genai

        config = openvino_genai.GenerationConfig(max_new_tokens=job.max_tokens, ignore_eos=not job.eos)
        config.stop_token_ids = set(job.eos)
        if job.temperature:
            config.do_sample, config.temperature = True, job.temperature
        ids = openvino.Tensor(numpy.array([job.prompt], dtype=numpy.int64))
        try:
            self.running[job] = self.pipeline.add_request(next(self.number), ids, config)
        except RuntimeError as error:
            job.finish(f"error: {error}")

    def pass_on(self, job: Job, handle: Any) -> None:
        from openvino_genai import GenerationStatus

        status = handle.get_status()
        while handle.can_read():
            for output in handle.read().values():
                for token in output.generated_ids:
                    job.give(int(token))
        if status != GenerationStatus.RUNNING:
            job.finish(STOP if job.eos else LENGTH)
        if job.done:
            del self.running[job]

    def fail(self, error: RuntimeError) -> None:
        for job in self.running:
            job.finish(f"error: {error}")
        self.running.clear()
