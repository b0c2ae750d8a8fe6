"""Many long requests at once: how many a server runs together, how full its KV cache gets, what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tasks.api import UserError
from tasks.services.llm import client, figures
from tasks.services.llm.endpoint import Endpoint

EVERY_S = 0.05
METRICS = {
    "running_peak": "most requests running at once while the crowd was served, by the server's own gauge",
    "waiting_peak": "most requests waiting at once, by the server's own gauge",
    "kv_usage_peak_pct": "largest share of the KV cache in use, by the server's own gauge",
    "preemptions": "requests of the crowd that lost their KV blocks to others",
    "crowd_tokens_per_s": "output tokens per second of the crowd",
    "server_ttft_p50_ms": "the crowd's median time to the first token, from the server's histogram",
    "longest_ok": "whether a request of exactly the greatest length, prompt and answer together, is answered in full",
    "refused_ok": "whether a prompt one token longer than that is refused before it is run",
}


@dataclass
class Peaks:
    running: float = 0.0
    waiting: float = 0.0
    usage: float = 0.0

    def take(self, seen: figures.Samples) -> None:
        self.running = max(self.running, seen.value("vllm:num_requests_running"))
        self.waiting = max(self.waiting, seen.value("vllm:num_requests_waiting"))
        self.usage = max(self.usage, seen.value("vllm:kv_cache_usage_perc"))


def press(server: Endpoint, count: int, *, prompt: int, output: int, seed: int, vocab: int) -> dict[str, float]:
    """`count` requests of `prompt` random tokens at once, `output` tokens each."""
    import numpy

    rng = numpy.random.default_rng(seed)
    prompts = [[int(token) for token in rng.integers(3, vocab, prompt)] for _ in range(count)]
    before = figures.metrics(server)
    with watched(server) as peaks:
        answers = client.concurrently(server, prompts, count, output, ignore_eos=True)
    load = figures.metrics(server).since(before)
    return {
        "running_peak": peaks.running, "waiting_peak": peaks.waiting, "kv_usage_peak_pct": peaks.usage * 100,
        "preemptions": load.value(figures.PREEMPTIONS),
        "crowd_tokens_per_s": sum(answer.tokens for answer in answers) / client.span_s(answers),
        "server_ttft_p50_ms": load.quantile(figures.TTFT, 0.5) * 1000,
    }  # fmt: skip


@contextmanager
def watched(server: Endpoint) -> Iterator[Peaks]:
    """Reads the server's gauges again and again while the block runs."""
    peaks, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_S):
            peaks.take(figures.metrics(server))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield peaks
        finally:
            over.set()
        watching.result()  # a watch that failed has missed peaks


def limits(server: Endpoint, longest: int) -> dict[str, float]:
    """Whether a request of `longest` tokens in all is answered, and a prompt of one more refused."""
    whole = answered(server, longest - 2, 2)
    beyond = answered(server, longest + 1, 1)
    return {"longest_ok": float(whole == 2), "refused_ok": float(beyond is None)}


def answered(server: Endpoint, prompt: int, output: int) -> int | None:
    """How many tokens come back for a prompt of `prompt` tokens; None when the server refuses it."""
    try:
        return client.complete(server, [5] * prompt, output, ignore_eos=True).tokens
    except UserError as error:
        if "answered 400" not in error.what:
            raise
        return None
