"""Load on an LLM server by vLLM's own benchmark client: the code behind `vllm bench serve` (once benchmark_serving.py).

It runs in this process, so that its libraries (8 s) are loaded once for all loads of an experiment; what it prints
goes to a log. Prompts are random token sequences of exact length, or the user's own from a JSONL file.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.api import Spread, UserError
from tasks.services.llm import endpoint
from tasks.services.llm.endpoint import Endpoint
from tasks.services.timing import spread

SLO_NAMES = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_ms": "e2el"}


@dataclass(frozen=True)
class Load:
    """`requests` requests, at most `concurrency` at a time (0: no limit), arriving at `request_rate` a second.

    Arrivals are a Poisson process; `request_rate` 0 sends all at once. `slo` (ttft_ms, tpot_ms, e2e_ms) is what goodput
    counts. `dataset` is a JSONL file of prompts (`{"prompt": …, "output_tokens": …}`) instead of random ones.
    """

    requests: int
    prompt_tokens: int = 64
    output_tokens: int = 64
    concurrency: int = 0
    request_rate: float = 0.0
    slo: Mapping[str, float] = field(default_factory=dict)
    dataset: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """What the client saw. Times in ms. ITL is unreliable on a CPU build: several tokens arrive in one chunk."""

    completed: int
    failed: int
    duration_s: float
    requests_per_s: float
    goodput_rps: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    output_tokens: int
    ttft: Spread
    tpot: Spread
    itl: Spread
    e2e: Spread
    texts: Sequence[str]
    errors: Sequence[str]

    def metrics(self) -> dict[str, float]:
        """The figures under the names that rows carry; answers of one token have neither TPOT nor ITL."""
        tails = {
            f"{name}_p{share}_ms": getattr(one, f"p{share}") for name, one in self.times() for share in (50, 95, 99)
        }
        return {
            **tails, "requests_per_s": self.requests_per_s, "output_tokens_per_s": self.output_tokens_per_s,
            "total_tokens_per_s": self.total_tokens_per_s, "goodput_rps": self.goodput_rps,
            "failed_requests": float(self.failed),
        }  # fmt: skip

    def spreads(self) -> dict[str, Spread]:
        return {f"{name}_p50_ms": one for name, one in self.times()}

    def times(self) -> list[tuple[str, Spread]]:
        """The times of which there are samples, by name."""
        named = {"ttft": self.ttft, "tpot": self.tpot, "itl": self.itl, "e2e": self.e2e}
        return [(name, one) for name, one in named.items() if one.n]


METRICS = {
    **{
        f"{name}_p{share}_ms": f"{words}: {'median' if share == 50 else f'{share}th percentile'}, seen by the client"
        for name, words in {
            "ttft": "time to the first token", "tpot": "mean time per further output token of a request",
            "itl": "time between two chunks of a stream (several tokens may share one)",
            "e2e": "time of a whole request",
        }.items()
        for share in (50, 95, 99)
    },
    "requests_per_s": "requests completed per second of the load",
    "output_tokens_per_s": "output tokens per second over the whole load",
    "total_tokens_per_s": "prompt and output tokens per second over the whole load",
    "goodput_rps": "completed requests per second that met every bound of the SLO",
    "failed_requests": "requests that were not answered",
}  # fmt: skip


def serve(server: Endpoint, tokenizer: Path, *, log: Path | None = None, **load: Any) -> Result:
    """Put one load (the fields of `Load`) on the server and wait for its end.

    `tokenizer` is the model's folder. Raises DeadServerError when the server's process has ended, UserError when no
    request at all was answered.
    """
    wish = Load(**load)
    arguments = parsed(argv(wish, server, tokenizer))
    from vllm.benchmarks import serve as benchmark

    with contextlib.ExitStack() as stack:
        sink = stack.enter_context((log or Path(os.devnull)).open("a", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stdout(sink))
        stack.enter_context(contextlib.redirect_stderr(sink))
        try:
            found = benchmark.main(arguments)
        except (ValueError, RuntimeError, OSError) as error:
            raise endpoint.explained(server, refused(str(error))) from error
    result = read(found)
    if not result.completed:
        raise endpoint.explained(server, refused(next(iter(result.errors), "")))
    if result.failed and endpoint.dead(server):
        raise endpoint.explained(server, refused(result.errors[0]))
    return result


def refused(said: str) -> UserError:
    last = said.strip().splitlines()[-1] if said.strip() else "no reason was given"
    return UserError(f"no request was answered: {last}", where="vllm bench serve")


def argv(load: Load, server: Endpoint, tokenizer: Path) -> list[str]:
    """The arguments of `vllm bench serve` for a load."""
    if unknown := set(load.slo) - set(SLO_NAMES):
        raise UserError(f"unknown SLO bound {', '.join(sorted(unknown))} (known: {', '.join(SLO_NAMES)})")
    data = ["--dataset-name", "random", "--random-input-len", str(load.prompt_tokens)]
    data += ["--random-output-len", str(load.output_tokens)]
    if load.dataset:
        data = ["--dataset-name", "custom", "--dataset-path", str(load.dataset), "--skip-chat-template"]
        data += ["--custom-output-len", "-1", "--disable-shuffle"]
    slo = [f"{SLO_NAMES[name]}:{bound:g}" for name, bound in load.slo.items()]
    return [
        "--backend", "openai", "--base-url", server.address, "--endpoint", "/v1/completions",
        "--model", server.model, "--tokenizer", str(tokenizer), *data, "--num-prompts", str(load.requests),
        "--seed", str(load.seed), "--temperature", "0", "--ignore-eos", "--disable-tqdm", "--save-detailed",
        "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,95,99",
        "--ready-check-timeout-sec", "0",
        *(["--max-concurrency", str(load.concurrency)] if load.concurrency else []),
        "--request-rate", f"{load.request_rate:g}" if load.request_rate else "inf",
        *(["--goodput", *slo] if slo else []),
    ]  # fmt: skip


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The arguments as the CLI of the installed vLLM reads them."""
    from vllm.benchmarks.serve import add_cli_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    add_cli_args(parser)
    found: argparse.Namespace = parser.parse_args(list(words))
    return found


def read(found: Mapping[str, Any]) -> Result:
    """A result of `vllm bench serve --save-detailed`; failed requests do not count in the times."""
    answered = [index for index, error in enumerate(found["errors"]) if not error]
    tokens = found["output_lens"]
    ttft = [found["ttfts"][index] * 1000 for index in answered]
    e2e = [found["latencies"][index] * 1000 for index in answered]
    tpot = [
        (total - first) / (tokens[index] - 1)
        for index, first, total in zip(answered, ttft, e2e, strict=True)
        if tokens[index] > 1
    ]
    itl = [gap * 1000 for index in answered for gap in found["itls"][index]]
    goodput = found.get("request_goodput")
    return Result(
        completed=int(found["completed"]), failed=int(found["failed"]), duration_s=float(found["duration"]),
        requests_per_s=float(found["request_throughput"]),
        goodput_rps=float(found["request_throughput"] if goodput is None else goodput),
        output_tokens_per_s=float(found["output_throughput"]),
        total_tokens_per_s=float(found["total_token_throughput"]), output_tokens=int(found["total_output_tokens"]),
        ttft=scatter(ttft), tpot=scatter(tpot), itl=scatter(itl), e2e=scatter(e2e),
        texts=[found["generated_texts"][index] for index in answered],
        errors=[error for error in found["errors"] if error],
    )  # fmt: skip


def scatter(samples: Sequence[float]) -> Spread:
    """Percentiles; of no samples at all they are not a number."""
    return spread(samples) if samples else Spread(0, math.nan, math.nan, math.nan, math.nan)
