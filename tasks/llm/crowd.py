"""Many long requests at once: how many a server runs together, how full its KV cache gets, what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
    "longest_ok": "whether a request of exactly the greatest length is answered",
    "refused_ok": "whether a request one token longer is refused before it is run",
}


@dataclass
class Peaks:
    running: float = 0.0
    waiting: float = 0.0
    usage: float = 0.0

    def take(self, seen: figures.Samples) -> None:
        self.running = max(self.running, seen.values.get("vllm:num_requests_running", 0.0))
        self.waiting = max(self.waiting, seen.values.get("vllm:num_requests_waiting", 0.0))
        self.usage = max(self.usage, seen.values.get("vllm:kv_cache_usage_perc", 0.0))


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
        "preemptions": load.values.get("vllm:num_preemptions_total", 0.0),
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

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def limits(server: Endpoint, longest: int) -> dict[str, float]:
    """Whether a request of `longest` tokens in all is answered, and a prompt of one more refused."""
    fits = client.complete(server, [5] * (longest - 2), 2, ignore_eos=True)
    try:
        client.complete(server, [5] * (longest + 1), 1)
        refused = False
    except UserError as error:
        refused = "answered 400" in error.what
    return {"longest_ok": float(fits.tokens == 2), "refused_ok": float(refused)}
