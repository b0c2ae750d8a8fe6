"""Several vLLM servers side by side, a device of its own for each, and requests divided among them by a policy."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import api
from tasks.dispatching import policies
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint, explained


@dataclass(frozen=True)
class Ask:
    document: int
    prompt: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True)
class Done:
    replica: int
    seconds: float
    outstanding: int  # at its replica, itself included, when it was sent


@contextmanager
def started(
    count: int, folder: Path, options: vllm.Options, scratch: Path, say: Callable[[str], None]
) -> Iterator[list[Endpoint]]:
    """`count` servers of one model: on a CPU side by side, each on a core of its own; on GPUs one after the other.

    Raises the UserError of the first that does not come up, after the others have been stopped.
    """
    cores = sorted(os.sched_getaffinity(0))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    gpus = visible.split(",")  # those that this job was given, where it was

    def start(number: int) -> tuple[ExitStack, Endpoint]:
        if options.gpu:  # one after the other: the environment is the whole process's
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number]
        else:
            os.sched_setaffinity(0, {cores[number % len(cores)]})  # of this thread, and so of its child
        stack = ExitStack()
        return stack, stack.enter_context(vllm.serve(folder, options, scratch / f"replica-{number}", say))

    with ExitStack() as fleet, ThreadPoolExecutor(1 if options.gpu else count) as threads:
        starts = [threads.submit(start, number) for number in range(count)]
        endpoints, faults = [], []
        for each in starts:
            try:
                stack, endpoint = each.result()
            except api.UserError as fault:
                faults.append(fault)
                continue
            fleet.push(stack)
            endpoints.append(endpoint)
        if faults:
            raise faults[0]
        yield endpoints


async def dispatched(
    fleet: Sequence[Endpoint], work: Sequence[Ask], choose: policies.Choose, concurrency: int
) -> list[Done]:
    """Every request through the dispatcher, `concurrency` at a time. UserError when one fails."""
    import aiohttp

    outstanding, room = [0] * len(fleet), asyncio.Semaphore(concurrency)
    timeout = aiohttp.ClientTimeout(total=client.TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def one(ask: Ask) -> Done:
            async with room:
                replica = choose(str(ask.document), outstanding)
                outstanding[replica] += 1
                busy, sent = outstanding[replica], time.perf_counter()
                try:
                    await posted(session, fleet[replica], ask)
                except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                    raise explained(fleet[replica], error) from error
                finally:
                    outstanding[replica] -= 1
                return Done(replica, time.perf_counter() - sent, busy)

        return list(await asyncio.gather(*map(one, work)))


async def posted(session: Any, server: Endpoint, ask: Ask) -> None:
    body = {
        "model": server.model, "prompt": list(ask.prompt), "max_tokens": ask.max_tokens, "temperature": 0,
        "ignore_eos": True,
    }  # fmt: skip
    async with session.post(f"{server.address}/v1/completions", json=body) as answer:
        said = await answer.json()
        tokens = said.get("usage", {}).get("completion_tokens")
        if answer.status != 200 or tokens != ask.max_tokens:
            raise api.UserError(f"{answer.status}, {tokens} of {ask.max_tokens} tokens: {said}", where=server.address)
