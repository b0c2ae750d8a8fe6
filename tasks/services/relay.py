"""A TCP relay in user space, one process: what `kubectl port-forward` is to a connection, less the API server.

Run as a program by `serve`; it needs uvloop only. Every byte crosses the process twice, once in and once out.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.services import process

CHUNK = 32 * 1024  # kubectl copies with Go's io.Copy, whose buffer has this size


@contextmanager
def serve(upstream: str, log: Path) -> Iterator[str]:
    """A relay to the loopback address `upstream` ("127.0.0.1:8000") until the block ends; its own address."""
    port = process.free_port()
    argv = [sys.executable, "-m", "tasks.services.relay", str(port), upstream]
    with process.serve(argv, log=log, ready=lambda: listens(port)):
        yield f"{process.LOOPBACK}:{port}"


def listens(port: int) -> bool:
    socket.create_connection((process.LOOPBACK, port), timeout=5).close()
    return True


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the sender is done, then say so to the receiver."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass  # one side has gone: the other is closed by the caller


async def relay(port: int, upstream: str) -> None:
    host, _, their_port = upstream.rpartition(":")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection(host, int(their_port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, forth), pump(back, writer))
        forth.close()
        writer.close()

    async with await asyncio.start_server(accept, process.LOOPBACK, port) as server:
        await server.serve_forever()


def main() -> None:
    import uvloop

    uvloop.run(relay(int(sys.argv[1]), sys.argv[2]))


if __name__ == "__main__":
    main()
