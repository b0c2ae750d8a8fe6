"""A model server for many requests at once: a bounded queue with back-pressure, and dynamic batching behind it.

    python high_concurrency_demo.py                                      # a small demonstration
    python high_concurrency_demo.py --port 8000 --model model.py         # serve infer(tokens) of model.py

POST /infer {"id": 7, "token": 42} → {"id": 7, "output": …}; 429 with Retry-After as long as the queue is full.
GET /stats → counters. The model runs in a process of its own: beside a busy event loop in the same process it would
wait for the interpreter's lock after every numpy call, and overload would stop the very work that ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import uvloop
from aiohttp import ClientSession, web

Infer = Callable[[Sequence[int]], Sequence[float]]


class Full(Exception):
    """The queue has no place: try again later."""


@dataclass
class Stats:
    accepted: int = 0
    answered: int = 0
    rejected: int = 0
    failed: int = 0
    batches: int = 0
    largest_batch: int = 0
    queue_length: int = 0
    queue_peak: int = 0


class Batcher:
    """Requests wait in a queue of `queue_limit`; up to `batch_limit` of them go through the model together.

    The first of a batch waits at most `max_delay_s` for others; what already waits in the queue is taken without delay.
    """

    def __init__(self, model: Executor, queue_limit: int, batch_limit: int, max_delay_s: float) -> None:
        self.model, self.batch_limit, self.max_delay_s = model, batch_limit, max_delay_s
        self.queue: asyncio.Queue[tuple[int, asyncio.Future[float]]] = asyncio.Queue(queue_limit)
        self.stats = Stats()

    async def answer(self, token: int) -> float:
        """The model's number for a token. Raises Full at once when the queue has no place."""
        future = asyncio.get_running_loop().create_future()
        try:
            self.queue.put_nowait((token, future))
        except asyncio.QueueFull:
            self.stats.rejected += 1
            raise Full from None
        self.stats.accepted += 1
        self.stats.queue_peak = max(self.stats.queue_peak, self.queue.qsize())
        return await future

    async def gather(self) -> list[tuple[int, asyncio.Future[float]]]:
        """The next batch."""
        loop = asyncio.get_running_loop()
        batch = [await self.queue.get()]
        deadline = loop.time() + self.max_delay_s
        while len(batch) < self.batch_limit:
            try:
                batch.append(self.queue.get_nowait())
            except asyncio.QueueEmpty:
                if (left := deadline - loop.time()) <= 0:
                    break
                try:
                    batch.append(await asyncio.wait_for(self.queue.get(), left))
                except TimeoutError:
                    break
        return batch

    async def work(self) -> None:
        """Batch after batch, for ever. A failing model fails its batch and no other."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self.gather()
            self.stats.batches += 1
            self.stats.largest_batch = max(self.stats.largest_batch, len(batch))
            try:
                outputs = await loop.run_in_executor(self.model, infer, [token for token, _ in batch])
            except Exception as error:
                outcomes: list[float | Exception] = [error] * len(batch)
            else:
                outcomes = list(outputs)[::-1]
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.cancelled():  # its client has gone
                    self.stats.failed += 1
                elif isinstance(outcome, Exception):
                    self.stats.failed += 1
                    future.set_exception(outcome)
                else:
                    self.stats.answered += 1
                    future.set_result(outcome)


def refused() -> web.Response:
    return web.json_response({"error": "full"}, status=429, headers={"Retry-After": "1"})


def application(batcher: Batcher) -> web.Application:
    async def ask(request: web.Request) -> web.Response:
        if batcher.queue.full():  # before anything is read: refusing must be cheap
            batcher.stats.rejected += 1
            return refused()
        try:
            asked = await request.json()
            number, token = asked["id"], int(asked["token"])
        except (ValueError, TypeError, KeyError):
            return web.json_response({"error": 'wanted: {"id": …, "token": …}'}, status=400)
        try:
            return web.json_response({"id": number, "output": await batcher.answer(token)})
        except Full:
            return refused()
        except Exception as error:  # the model's own failure
            return web.json_response({"id": number, "error": str(error)}, status=500)

    async def stats(request: web.Request) -> web.Response:
        batcher.stats.queue_length = batcher.queue.qsize()
        return web.json_response(asdict(batcher.stats))

    async def started(app: web.Application) -> None:
        app["worker"] = asyncio.create_task(batcher.work())

    app = web.Application()
    app.router.add_post("/infer", ask)
    app.router.add_get("/stats", stats)
    app.on_startup.append(started)
    return app


async def serve(batcher: Batcher, port: int) -> web.AppRunner:
    runner = web.AppRunner(application(batcher), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    return runner


def doubled(tokens: Sequence[int]) -> list[float]:
    """The demonstration's model: 10 ms for a batch of any size."""
    time.sleep(0.01)
    return [2.0 * token for token in tokens]


served: Infer = doubled  # of the model's process


def load(file: Path) -> None:
    """Serve `infer` of a model's Python file; runs in the model's process."""
    global served
    spec = importlib.util.spec_from_file_location("model", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    served = module.infer


def infer(tokens: Sequence[int]) -> Sequence[float]:
    return served(tokens)


async def demonstrate(batcher: Batcher) -> None:
    """A burst that is larger than the queue: some are answered, the rest is refused at once."""
    runner = await serve(batcher, 0)
    port = runner.addresses[0][1]
    async with ClientSession(f"http://127.0.0.1:{port}") as session:

        async def ask(number: int) -> int:
            async with session.post("/infer", json={"id": number, "token": number}) as answer:
                said = await answer.json()
                assert answer.status == 429 or said == {"id": number, "output": 2.0 * number}
                return answer.status

        statuses = await asyncio.gather(*(ask(number) for number in range(500)))
    print(json.dumps({"answered": statuses.count(200), "refused": statuses.count(429), **asdict(batcher.stats)}))
    await runner.cleanup()


async def forever(batcher: Batcher, port: int) -> None:
    await serve(batcher, port)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--queue-limit", type=int, default=100)
    parser.add_argument("--batch-limit", type=int, default=32)
    parser.add_argument("--max-delay-ms", type=float, default=2.0)
    given = parser.parse_args()
    prepared = {"initializer": load, "initargs": (given.model,)} if given.model else {}
    with ProcessPoolExecutor(1, get_context("spawn"), **prepared) as model:
        batcher = Batcher(model, given.queue_limit, given.batch_limit, given.max_delay_ms / 1000)
        uvloop.run(forever(batcher, given.port) if given.model else demonstrate(batcher))


if __name__ == "__main__":
    main()
