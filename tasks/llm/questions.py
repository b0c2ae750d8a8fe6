"""The same questions put to any server: one at a time, several at a time, and how many it answers right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.api import Spread
from tasks.models import lm, quiz
from tasks.services.llm import client
from tasks.services.llm.client import Answer
from tasks.services.llm.endpoint import Endpoint
from tasks.services.timing import spread

ALONE, WARM_UP = 12, 3
EXAM, EXAM_TOKENS = 40, 24
METRICS = {
    "ttft_ms": "time to the first token of one request at a time, median",
    "tpot_ms": "time of each further token of one request at a time: the median over requests of their mean",
    "latency_p50_ms": "time of a whole request under the concurrent load, median",
    "latency_p99_ms": "time of a whole request under the concurrent load, 99th percentile",
    "throughput_rps": "requests answered per second under the concurrent load, median of the rounds",
    "tokens_per_s": "output tokens per second under the concurrent load, median of the rounds",
    "exact_match_pct": "held-out questions that were answered exactly right, in percent",
}


def tokenized(folder: Path, seed: int) -> Iterator[list[int]]:
    """Held-out questions as token ids, so that every engine gets the same; endless, none twice in a row."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = [lm.asked(question.prompt, chat=False) for question in quiz.held_out(400, seed)]
    return itertools.cycle([list(tokenizer(text)["input_ids"]) for text in asked])


@dataclass
class Speed:
    """What a load showed. `alone` are requests one at a time, `rounds` the answers of each concurrent round."""

    alone: list[Answer] = field(default_factory=list)
    rounds: list[list[Answer]] = field(default_factory=list)

    def metrics(self) -> dict[str, float]:
        return {
            "ttft_ms": self.ttft().p50, "tpot_ms": self.tpot().p50,
            "latency_p50_ms": self.latency().p50, "latency_p99_ms": self.latency().p99,
            "throughput_rps": self.rate().p50, "tokens_per_s": self.tokens().p50,
        }  # fmt: skip

    def spreads(self) -> dict[str, Spread]:
        return {
            "ttft_ms": self.ttft(), "tpot_ms": self.tpot(), "latency_p50_ms": self.latency(),
            "throughput_rps": self.rate(), "tokens_per_s": self.tokens(),
        }  # fmt: skip

    def ttft(self) -> Spread:
        return spread([answer.ttft_s * 1000 for answer in self.alone])

    def tpot(self) -> Spread:
        return spread([answer.tpot_s * 1000 for answer in self.alone])

    def latency(self) -> Spread:
        return spread([answer.seconds * 1000 for answers in self.rounds for answer in answers])

    def rate(self) -> Spread:
        return spread([len(answers) / client.span_s(answers) for answers in self.rounds])

    def tokens(self) -> Spread:
        return spread([sum(answer.tokens for answer in answers) / client.span_s(answers) for answers in self.rounds])


def speed(
    server: Endpoint, prompts: Iterator[Sequence[int]], *, tokens: int, concurrency: int, requests: int, rounds: int
) -> Speed:
    """Requests of exactly `tokens` tokens: some one at a time, then rounds of `requests` at `concurrency`."""

    def ask(count: int, at_once: int) -> list[Answer]:
        given = list(itertools.islice(prompts, count))
        return client.concurrently(server, given, at_once, tokens, ignore_eos=True)

    ask(WARM_UP, 1)
    found = Speed(alone=ask(ALONE, 1))
    ask(concurrency, concurrency)
    found.rounds = [ask(requests, concurrency) for _ in range(rounds)]
    return found


def exam(server: Endpoint, seed: int, concurrency: int = 8) -> float:
    """Percent of held-out questions that the server answers exactly right, greedy, until it ends the answer itself."""
    questions = quiz.held_out(EXAM, seed)
    prompts = [lm.asked(question.prompt, chat=False) for question in questions]
    answers = client.concurrently(server, prompts, concurrency, EXAM_TOKENS)
    return quiz.exact_match_pct(questions, [answer.text for answer in answers])
