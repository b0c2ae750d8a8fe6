"""A kind that measures nothing: it tries out a plan, a sweep or the runner itself without a system under test."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from pydantic import Field

from tasks import api
from tasks.services.process import LOOPBACK, free_port, serve


class Params(api.Params):
    seconds: float = 0.0
    fail: str = ""  # fail with this message after the points
    memory_mb: int = 0
    lacking: list[int] = Field(default_factory=list)  # values of `n` for which the machine lacks something
    service: bool = False  # each point asks a real HTTP server, started and stopped like any kind's


class Point(api.Params):
    n: int = 0
    label: str = ""


METRICS: Mapping[str, str] = {"elapsed_s": "seconds spent on the point", "value": "the point's own number, `n`"}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="rehearsal")]


def run(params: Params, ctx: api.Context) -> None:
    ballast = b"x" * (params.memory_mb * 2**20)
    with ExitStack() as stack:
        url = stack.enter_context(_server(ctx)) if params.service else ""
        for point in ctx.points:
            if point.n in params.lacking:
                ctx.blocked(point, f"there is no {point.n} here", f"bring {point.n}")
                continue
            began = time.monotonic()
            time.sleep(params.seconds)
            if url:
                _get(url)
            ctx.record(point, {"elapsed_s": time.monotonic() - began, "value": point.n})
    del ballast
    if params.fail:
        raise api.UserError(params.fail)


@contextmanager
def _server(ctx: api.Context) -> Iterator[str]:
    port = free_port()
    url = f"http://{LOOPBACK}:{port}/"
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", LOOPBACK, "--directory", str(ctx.scratch)]
    with serve(argv, log=ctx.scratch / "server.log", ready=lambda: _get(url)):
        yield url


def _get(url: str) -> bool:
    import urllib.request  # not for an experiment that measures nothing

    with urllib.request.urlopen(url, timeout=5) as answer:
        return bool(answer.status == 200)
