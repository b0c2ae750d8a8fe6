"""A constant load during a release: a router with shares for each version, and every answer held against its version.

Most workers name the version that the router chose; the answer must be that version's. The last worker names none, as
most clients do: its answer must be that of a version which was in service while the request was under way.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any

from tasks.api import UserError
from tasks.triton.client import Client

WAIT_S = 20  # for an answer of a version, or for the requests under way to end


@dataclass(frozen=True)
class Answer:
    """One request: when it was answered, its latency, whose answer it was (0: of no version in service: an error)."""

    at: float
    ms: float
    version: int
    routed: bool  # the router chose the version; else the server did
    error: str = ""


@dataclass
class Canary:
    """The router and what came of the requests. `shares`: version -> part of the requests that name it."""

    grpc: str
    model: str
    tensors: tuple[str, str]
    inputs: Any
    expected: Mapping[int, Any]  # version -> its answer to each input, an array
    tolerance: float
    shares: Mapping[int, float]
    answers: list[Answer] = field(default_factory=list)
    under_way: dict[int, int] = field(default_factory=dict)  # version -> routed requests
    in_service: tuple[int, ...] = ()  # what the server may answer with when no version is named
    lock: Lock = field(default_factory=Lock)
    ended: Event = field(default_factory=Event)

    def switch(self, shares: Mapping[int, float]) -> None:
        """Send new requests by other shares."""
        with self.lock:
            self.shares = dict(shares)

    def drain(self, versions: Sequence[int]) -> None:
        """Wait until no routed request of these versions is under way."""
        await_true(lambda: not any(self.under_way.get(version) for version in versions), "requests did not end")

    def await_answer(self, version: int, since: float) -> float:
        """The time of the first routed answer of `version` after `since`."""
        found: list[float] = []

        def seen() -> bool:
            found[:] = [
                one.at for one in self.answers[-200:] if one.routed and one.version == version and one.at > since
            ]
            return bool(found)

        await_true(seen, f"version {version} did not answer")
        return min(found)

    def work(self, routed: bool, every_s: float, seed: int) -> None:
        """One worker: a request every `every_s` seconds, late ones at once, until the load ends."""
        chance, client, due = random.Random(seed), Client(self.grpc), time.monotonic()
        for number in itertools.count():
            due += every_s
            if self.ended.wait(max(0.0, due - time.monotonic())):
                break
            answer = self.ask(client, number % len(self.inputs), routed, chance.random())
            self.answers.append(answer)
        client.close()

    def ask(self, client: Client, index: int, routed: bool, chance: float) -> Answer:
        """One request; its answer is compared with what each version that could have given it answers."""
        version, allowed = self.choose(routed, chance)
        start, error, answer = time.monotonic(), "", None
        try:
            name, output = self.tensors
            asked = str(version) if routed else ""
            answer = client.infer(self.model, {name: self.inputs[index : index + 1]}, asked).get(output)
        except UserError as failed:
            error = failed.what
        with self.lock:
            self.under_way[version] = self.under_way.get(version, 1) - 1
            could = (version,) if routed else (*allowed, *self.in_service)
        now = time.monotonic()
        gave = next((each for each in could if self.is_from(answer, each, index)), 0)
        if not gave and not error:
            error = f"an answer that version {' or '.join(map(str, sorted(set(could))))} does not give"
        return Answer(now, (now - start) * 1000, gave, routed, error)

    def choose(self, routed: bool, chance: float) -> tuple[int, tuple[int, ...]]:
        """The version of the next request (0: none is named) and what the server may answer with as it is sent."""
        with self.lock:
            version = 0
            if routed:
                versions, shares = zip(*self.shares.items(), strict=True)
                sums = itertools.accumulate(shares)
                version = next((v for v, upto in zip(versions, sums, strict=True) if chance < upto), versions[-1])
            self.under_way[version] = self.under_way.get(version, 0) + 1
            return version, self.in_service

    def is_from(self, answer: Any, version: int, index: int) -> bool:
        expected = self.expected[version][index : index + 1]
        if answer is None or answer.shape != expected.shape:
            return False
        return bool(abs(answer - expected).max() <= self.tolerance)


def await_true(condition: Any, otherwise: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise UserError(f"{otherwise} within {WAIT_S} s")
        time.sleep(0.002)


@contextmanager
def load(canary: Canary, rate_rps: float, workers: int, seed: int) -> Iterator[Canary]:
    """Keep `rate_rps` requests a second coming from `workers` until the block ends."""
    threads = [
        Thread(target=canary.work, args=(number < workers - 1, workers / rate_rps, seed + number), daemon=True)
        for number in range(workers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield canary
    finally:
        canary.ended.set()
        for thread in threads:
            thread.join(WAIT_S)
