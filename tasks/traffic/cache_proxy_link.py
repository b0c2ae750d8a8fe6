"""A slow network link to a server: what a client sends arrives `lag_s` later, in order; answers come back at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tasks.services.process import LOOPBACK

CHUNK = 65536


@dataclass
class Link:
    """An open link. `lag_s` may be changed at any time; it holds for bytes that arrive from then on."""

    target: int
    port: int = 0
    lag_s: float = 0.0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)  # one for each connection

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.create_task(self.connect(reader, writer)))

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self.target)
        self.writers += [writer, far_writer]
        await asyncio.gather(self.forward(reader, far_writer), pump(far_reader, writer))

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note every chunk's due time on arrival, so that lag is added once and not for each chunk of a message."""
        loop = asyncio.get_running_loop()
        try:
            while chunk := await reader.read(CHUNK):
                loop.call_later(self.lag_s, writer.write, chunk)
        except OSError:
            pass  # the client is gone: its last bytes are still delivered
        loop.call_later(self.lag_s, writer.close)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass  # either side is gone
    finally:
        writer.close()


@asynccontextmanager
async def slow_link(target: int) -> AsyncIterator[Link]:
    """A link to the loopback port `target`, without lag until `lag_s` is set; closed with its connections."""
    link = Link(target)
    server = await asyncio.start_server(link.accept, LOOPBACK, 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        for writer in link.writers:
            writer.close()
        await asyncio.gather(*link.tasks, return_exceptions=True)
