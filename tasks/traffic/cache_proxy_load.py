"""Load for a cache client, with the timer outside of it: questions go in, samples come out."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.api import Spread, UserError
from tasks.models import answers


@dataclass(frozen=True)
class Sample:
    """One request: which input, when it was sent (perf_counter), how long it took, which version answered what."""

    input: int
    sent: float
    seconds: float
    version: int
    checksum: int


def questions(seed: Sequence[int], count: int) -> Any:
    """`count` inputs, shape (count, WIDTH), float32: the same for the same seed, never the same for another one."""
    import numpy

    return numpy.random.default_rng(seed).standard_normal((count, answers.WIDTH), numpy.float32)


async def ask(client: Any, inputs: Any, index: int) -> Sample:
    """Ask one question; only `infer` is timed."""
    sent = time.perf_counter()
    answer = await client.infer(inputs[index])
    seconds = time.perf_counter() - sent
    return Sample(index, sent, seconds, answers.version_of(answer), zlib.crc32(answer.tobytes()))


async def closed_loop(client: Any, inputs: Any, order: Iterable[int], workers: int) -> list[Sample]:
    """Ask in `order` with `workers` requests in flight: each worker sends its next one when its last is answered."""
    waiting = iter(order)
    samples: list[Sample] = []

    async def work() -> None:
        for index in waiting:
            samples.append(await ask(client, inputs, index))

    await asyncio.gather(*(work() for _ in range(workers)))
    return samples


async def paced(client: Any, inputs: Any, order: Sequence[int], rate_rps: float) -> list[Sample]:
    """Ask in `order` at a fixed rate, whether or not earlier requests are answered (an open loop)."""
    start = time.perf_counter()
    tasks = []
    for number, index in enumerate(order):
        await asyncio.sleep(start + number / rate_rps - time.perf_counter())
        tasks.append(asyncio.create_task(ask(client, inputs, index)))
    return list(await asyncio.gather(*tasks))


async def prove(client: Any, inputs: Any, version: int = 1) -> None:
    """Before anything is timed: a fresh and a repeated answer must equal the model computed without Triton."""
    import numpy

    reference = answers.Reference(version)
    for x in inputs:
        expected = reference(x)
        for attempt in ("first", "repeated"):
            answer = await client.infer(x)
            if answer.shape != expected.shape or not numpy.allclose(answer, expected, atol=1e-4):
                raise UserError(
                    f"the client's {attempt} answer differs from the model's: "
                    f"shape {answer.shape}, first values {answer[:3]}; expected {expected.shape}, {expected[:3]}"
                )


def refuse_changed(samples: Iterable[Sample]) -> None:
    """One input and version must always give the same bytes, cached or not."""
    seen: dict[tuple[int, int], int] = {}
    for sample in samples:
        if seen.setdefault((sample.input, sample.version), sample.checksum) != sample.checksum:
            raise UserError(f"input {sample.input} got two different answers from version {sample.version}")


def milliseconds(samples: Iterable[Sample]) -> Spread:
    """Latency in ms over all samples."""
    return spread([sample.seconds * 1000 for sample in samples])


def spread(values: Sequence[float]) -> Spread:
    import numpy

    p50, p95, p99 = map(float, numpy.percentile(values, (50, 95, 99)))
    return Spread(len(values), p50, p95, p99, float(numpy.std(values)))
