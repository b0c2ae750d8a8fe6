"""The process that offers thousands of HTTP requests a second; `burst` starts it. It needs uvloop, httptools and numpy.

Open loop: a request is due at its time, and its latency counts from then. One that finds no free connection within
`patience_s` is never sent: if it queued here for longer, its time would run out in this process and not in the server,
which would then work for clients that are gone. One that was sent is given up `timeout_s` after it was due.
aiohttp's client carries a few hundred requests a second on a busy core; here a request is one write, and a response
one pass of Node's parser.
Standard input: `{host, port, path, body, phases, connections, tokens, pattern, timeout_s, patience_s, seed, out}`; it
writes an array of seven rows to `out`: due (s), latency (s), HTTP status (0: none), token, the number in the answer,
when it was sent (s after it was due; NaN: never), when this process came to it (s after it was due).
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from collections import deque
from typing import Any, get_args

TICK_S = 0.001
EXPIRE_S = 0.02  # between looks for requests to give up: a look at every connection costs as much as some requests
UNANSWERED = 0
Row = tuple[float, float, int, int, float, float, float]


class Load:
    """The requests that are due, and what became of each."""

    def __init__(self, job: dict[str, Any], due: Any, tokens: Any) -> None:
        self.job, self.due, self.tokens, self.next = job, due.tolist(), tokens.tolist(), 0
        self.rows: list[Row] = []
        self.sent = [math.nan] * len(self.due)
        self.lag = [math.nan] * len(self.due)
        self.idle: list[Connection] = []
        self.waiting: deque[int] = deque()
        self.pattern = re.compile(job["pattern"].encode())
        self.timeout_s, self.patience_s = float(job["timeout_s"]), float(job["patience_s"])
        self.loop = asyncio.get_running_loop()
        self.began = 0.0
        self.over = asyncio.Event()

    def now(self) -> float:
        return self.loop.time() - self.began

    def settle(self, number: int, status: int, body: bytes) -> None:
        """A request has come to its end."""
        found = self.pattern.search(body) if status == 200 else None
        given, due = float(found.group(1)) if found else math.nan, self.due[number]
        latency, token = self.now() - due, self.tokens[number]
        self.rows.append((due, latency, status, token, given, self.sent[number], self.lag[number]))
        if len(self.rows) == len(self.due):
            self.over.set()

    def send(self) -> None:
        """What is due goes to idle connections; what has waited for one too long is never sent."""
        now = self.now()
        while self.next < len(self.due) and self.due[self.next] <= now:
            self.waiting.append(self.next)
            self.lag[self.next] = now - self.due[self.next]
            self.next += 1
        while self.waiting and self.idle:
            number = self.waiting.popleft()
            self.sent[number] = now - self.due[number]
            self.idle.pop().ask(number)
        while self.waiting and self.due[self.waiting[0]] + self.patience_s < now:
            self.settle(self.waiting.popleft(), UNANSWERED, b"")

    def request(self, number: int) -> bytes:
        filled = self.job["body"].replace("{number}", str(number)).replace("{token}", str(self.tokens[number]))
        head = f"POST {self.job['path']} HTTP/1.1\r\nHost: {self.job['host']}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(filled)}\r\n\r\n{filled}".encode()

    async def run(self, connections: int) -> None:
        open_ones = [Connection(self) for _ in range(connections)]
        for one in open_ones:
            await one.connect()
        self.began = self.loop.time()
        print("started", flush=True)
        looked = 0.0
        while self.due and not self.over.is_set():
            self.send()
            if (now := self.now()) >= looked + EXPIRE_S:
                looked = now
                for one in open_ones:
                    one.expire(now)
            await asyncio.sleep(TICK_S)


class Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request under way."""

    def __init__(self, load: Load) -> None:
        self.load, self.number, self.body = load, -1, b""
        self.transport: Any = None

    async def connect(self) -> None:
        await self.load.loop.create_connection(lambda: self, self.load.job["host"], self.load.job["port"])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        import httptools

        self.transport, self.parser = transport, httptools.HttpResponseParser(self)
        self.load.idle.append(self)

    def ask(self, number: int) -> None:
        self.number, self.body = number, b""
        self.transport.write(self.load.request(number))

    def data_received(self, data: bytes) -> None:
        import httptools

        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        number, self.number = self.number, -1
        self.load.settle(number, self.parser.get_status_code(), self.body)
        self.load.idle.append(self)
        if self.load.waiting:
            self.load.send()

    def expire(self, now: float) -> None:
        """Give the request under way up: HTTP/1.1 can only do so by closing."""
        if self.number >= 0 and self.load.due[self.number] + self.load.timeout_s < now:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        number, self.number = self.number, -1
        if self in self.load.idle:
            self.load.idle.remove(self)
        if number >= 0:
            self.load.settle(number, UNANSWERED, b"")
        if not self.load.over.is_set():
            self.load.loop.create_task(self.reconnect())

    async def reconnect(self) -> None:
        try:
            await self.connect()
        except OSError:
            await asyncio.sleep(0.05)
            if not self.load.over.is_set():
                self.load.loop.create_task(self.reconnect())


def main() -> None:
    import numpy as np
    import uvloop

    job = json.load(sys.stdin)
    draw, start, due = np.random.default_rng(job["seed"]), 0.0, []
    for seconds, qps in job["phases"]:
        due.append(start + np.sort(draw.uniform(0, seconds, draw.poisson(seconds * qps))))
        start += seconds
    moments = np.concatenate(due)
    tokens = draw.integers(0, job["tokens"], len(moments))

    async def offer() -> list[Row]:
        load = Load(job, moments, tokens)
        await load.run(job["connections"])
        return load.rows

    rows = uvloop.run(offer())
    np.save(job["out"], np.array(sorted(rows)).T.reshape(len(get_args(Row)), -1), allow_pickle=False)


if __name__ == "__main__":
    main()
