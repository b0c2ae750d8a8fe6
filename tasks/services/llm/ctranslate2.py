"""CTranslate2 as an engine: a C++ Transformer runtime with fused kernels and static batches.

It stands in for FasterTransformer, which is archived and CUDA-only and also batched whole requests.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.models import cache as cached
from tasks.services.llm import child, openai_server
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import LENGTH, STOP, Job, Setup, StaticBatches, first_token_goes_out


@contextmanager
def serve(model: Path, setup: Setup, folder: Path, say: Callable[[str], None] = print) -> Iterator[Endpoint]:
    """Convert and serve until the block ends."""
    with child.serve("ctranslate2", model, setup, folder, say) as server:
        yield server


def run(model: Path, setup: Setup, port: int, _mode: str) -> None:
    from tokenizers import Tokenizer

    engine = Static(load(convert(model, setup), setup), Tokenizer.from_file(str(model / "tokenizer.json")))
    batches = StaticBatches(engine.generate, setup.max_batch)
    openai_server.run(batches, model, setup.name or model.name, port, setup.max_model_len)


def convert(model: Path, setup: Setup) -> Path:
    """CTranslate2's own files, made once for the same weights and settings."""
    from ctranslate2.converters import TransformersConverter

    parts = [model / "config.json", model / "tokenizer.json", *sorted(model.glob("*.safetensors"))]
    state = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    name = f"{model.name}-ctranslate2-{cached.key([str(model.resolve()), state], [sys.modules[__name__]])}"
    convert = TransformersConverter(str(model)).convert
    return cached.obtain(name, lambda stage: convert(str(stage), force=True), setup.cache)


def load(folder: Path, setup: Setup) -> Any:
    """The generator; without a precision of the caller's, the device's fastest plain one."""
    import ctranslate2

    device = "cuda" if setup.gpu else "cpu"
    able = ctranslate2.get_supported_compute_types(device)
    wanted = setup.dtype or ("bfloat16" if setup.gpu else "float32")
    if wanted not in able:
        wanted = "float32"
    return ctranslate2.Generator(
        str(folder), device=device, compute_type=wanted, intra_threads=setup.threads or 0, max_queued_batches=-1
    )


class Static:
    """A batch at a time; tokens are passed on at every step."""

    def __init__(self, generator: Any, tokenizer: Any) -> None:
        self.generator, self.tokenizer = generator, tokenizer

    def generate(self, jobs: list[Job]) -> None:
        longest = max(job.max_tokens for job in jobs)
        forever = not any(job.eos for job in jobs)

        def step(result: Any) -> bool:
            job = jobs[result.batch_id]
            job.give(result.token_id)
            if result.step == 0 and result.batch_id == len(jobs) - 1:
                first_token_goes_out()
            return bool(job.done)

        hot = jobs[0].temperature
        self.generator.generate_batch(
            [[self.tokenizer.id_to_token(token) for token in job.prompt] for job in jobs],
            max_length=longest, min_length=longest if forever else 0, include_prompt_in_result=False,
            sampling_topk=0 if hot else 1, sampling_temperature=hot or 1.0, callback=step,
        )  # fmt: skip
        for job in jobs:
            job.finish(STOP if job.eos else LENGTH)
