"""Hugging Face transformers as an engine: one by one, in static batches, or with its continuous batching."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tasks.services.llm import child, openai_server
from tasks.services.llm.endpoint import Endpoint
from tasks.services.llm.jobs import LENGTH, STOP, Job, Setup, StaticBatches

Mode = Literal["sequential", "static", "continuous", "deepspeed"]
PAGE = 32  # tokens of a KV page: short prompts would waste most of the default 256


@contextmanager
def serve(
    model: Path, mode: Mode, setup: Setup, folder: Path, say: Callable[[str], None] = print
) -> Iterator[Endpoint]:
    """Serve until the block ends: `sequential` one request at a time, `static` up to `max_batch` that start together,
    `continuous` joined and left at every step, `deepspeed` as `static` with DeepSpeed's kernels."""
    with child.serve(f"transformers_server:{mode}", model, setup, folder, say) as server:
        yield server


def run(model: Path, setup: Setup, port: int, mode: Mode) -> None:
    network = load(model, setup)
    if mode == "deepspeed":
        network = with_deepspeed(network)
    if mode == "continuous":
        engine: Any = Continuous(network, setup)
    else:
        engine = StaticBatches(Static(network).generate, 1 if mode == "sequential" else setup.max_batch)
    openai_server.run(engine, model, setup.name or model.name, port, setup.max_model_len)


def load(model: Path, setup: Setup) -> Any:
    """The model in evaluation mode on its device; bfloat16 unless another precision is asked for."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    if setup.threads:
        torch.set_num_threads(setup.threads)
    dtype = getattr(torch, setup.dtype or "bfloat16")
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    network.generation_config = GenerationConfig()  # its own end-of-sequence token would fill in where none is wanted
    return network.to("cuda" if setup.gpu else "cpu").eval()


def with_deepspeed(network: Any) -> Any:
    """The same model with DeepSpeed's inference kernels where it has some for it."""
    import deepspeed

    return deepspeed.init_inference(network, dtype=network.dtype, replace_with_kernel_inject=True).module


class Static:
    """`generate` on left-padded prompts. It goes on until the longest answer of the batch is done."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def generate(self, jobs: list[Job]) -> None:
        import torch
        from transformers import GenerationConfig

        longest = max(len(job.prompt) for job in jobs)
        ids = torch.tensor([[0] * (longest - len(job.prompt)) + job.prompt for job in jobs])
        mask = torch.tensor([[0] * (longest - len(job.prompt)) + [1] * len(job.prompt) for job in jobs])

        def pass_on(tokens: Any, _scores: Any, **_: Any) -> Any:
            for job, token in zip(jobs, tokens[:, -1].tolist(), strict=True):
                job.give(token)
            return torch.full((len(jobs),), all(job.done for job in jobs), device=tokens.device)

        hot = jobs[0].temperature
        sampling = {"do_sample": True, "temperature": hot, "top_k": 0} if hot else {"do_sample": False}
        config = GenerationConfig(max_new_tokens=max(job.max_tokens for job in jobs), pad_token_id=0, **sampling)
        with torch.inference_mode():
            self.network.generate(
                ids.to(self.network.device), attention_mask=mask.to(self.network.device),
                generation_config=config, stopping_criteria=[pass_on],
            )  # fmt: skip


class Continuous:
    """transformers' continuous batching: paged KV cache, requests admitted between steps."""

    def __init__(self, network: Any, setup: Setup) -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        blocks = -(-setup.max_model_len // PAGE) * setup.max_batch
        config = ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=blocks, max_batch_tokens=max(setup.max_model_len, setup.max_batch),
            max_requests_per_batch=setup.max_batch, use_cuda_graph=False if not setup.gpu else None,
        )  # fmt: skip
        greedy = GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=setup.max_model_len)
        self.manager = network.init_continuous_batching(greedy, config)
        self.manager.start()
        self.number = itertools.count()

    def submit(self, job: Job) -> None:
        request, seen = f"job-{next(self.number)}", 0

        def take(result: Any) -> None:
            nonlocal seen
            new, seen = result.generated_tokens[seen:], len(result.generated_tokens)
            for token in new:
                job.give(int(token))
            if result.is_finished():
                job.finish(f"error: {result.error}" if result.error else STOP if job.eos else LENGTH)

        self.manager.register_result_handler(request, take)
        ends = sorted(job.eos) or [-1]
        self.manager.add_request(job.prompt, request, job.max_tokens, streaming=True, eos_token_id=ends)
