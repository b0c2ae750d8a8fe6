"""What a served model holds and how fast it answers: memory of the process with the weights, tokens per second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tasks.models import device
from tasks.services.llm import client
from tasks.services.llm.endpoint import Endpoint

MB = 1e6
MIN_REPEATS = 3

METRICS = {
    "memory_mb": "memory of the process that holds the model, 10^6 bytes: weights, the KV cache, on a CPU its runtime",
    "decode_tps": "output tokens per second of one request at a time, median of the repeats",
    "throughput_tps": "output tokens per second of several requests at a time, median of the repeats",
}


def speeds(
    endpoint: Endpoint, prompts: Sequence[list[int]], concurrency: int, tokens: int, budget_s: float
) -> list[float]:
    """Output tokens per second of each repeat: `concurrency` requests at once, other prompts in each repeat.

    The first round warms up. Every answer runs to `tokens` tokens, so that all repeats do the same work.
    """
    rates: list[float] = []
    turn, deadline = 0, 0.0
    while turn <= MIN_REPEATS or time.perf_counter() < deadline:
        chosen = [prompts[(turn * concurrency + each) % len(prompts)] for each in range(concurrency)]
        answers = client.concurrently(endpoint, chosen, concurrency, tokens, ignore_eos=True)
        if turn:
            rates.append(sum(answer.tokens for answer in answers) / client.span_s(answers))
        else:
            deadline = time.perf_counter() + budget_s
        turn += 1
    return rates


def on_gpu() -> bool:
    return device.name() == "cuda"


def beside_others() -> tuple[str, ...]:
    """vLLM's option for a server whose KV cache has a given size: else it wants 92 % of the GPU to be free at first."""
    return ("--gpu-memory-utilization", "0.1") if on_gpu() else ()


def used_before() -> float:
    """Bytes of the GPU in use before a server starts; 0 without a GPU."""
    import torch

    if not on_gpu():
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return float(total - free)


def held_mb(endpoint: Endpoint, before: float) -> float:
    """Memory of the model's process: what the GPU holds beyond `before`, or the server's largest private memory."""
    import psutil

    if on_gpu():
        return (used_before() - before) / MB
    server = psutil.Process(endpoint.pid)
    family = [server, *server.children(recursive=True)]
    return max(_private_bytes(process, psutil) for process in family) / MB


def _private_bytes(process: Any, psutil: Any) -> float:
    try:
        return float(process.memory_full_info().uss)
    except psutil.NoSuchProcess:
        return 0.0
