"""Parameters and small steps that the kinds of this folder share."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import Field

from tasks import api
from tasks.dispatching import server
from tasks.services import burst

LOOK_S = 0.1
CAPACITY_S = 2.0
CAPACITY_QPS = (4000.0, 16000.0, 64000.0)
KEPT_UP = 0.8  # a server that answers more of what is offered may have lacked work


class Served(api.Params):
    """The learner's server with the harness's network behind it."""

    file: str = "high_concurrency_demo.py"
    layers: int = Field(default=8, ge=1, le=8)  # of the served network: the processor time of a request
    batch_limit: int = Field(default=64, ge=1)
    max_delay_ms: float = Field(default=2.0, ge=0)
    seconds: float = Field(default=4.0, gt=0)  # of each load
    connections: int = Field(default=1024, ge=1)
    timeout_s: float = Field(default=2.0, gt=0)  # when a client gives up


NEEDS = api.Needs("asyncio server", environment="triton", binaries=("setpriv",), memory_gb=1)


def more_files(wanted: int) -> None:
    """Let this process and its children open so many files; a connection is one at either end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise api.UserError(f"{wanted} connections exceed the limit of {hard} open files", remedy="raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def right(answers: burst.Answers, layers: int, where: str) -> burst.Answers:
    """The same answers, once each is known to belong to its request. UserError when one does not."""
    if wrong := answers.wrong(server.expected(layers), server.TOLERANCE):
        good = int((answers.status == 200).sum())
        raise api.UserError(f"{wrong} of {good} answers are not those of their own request", where=where)
    return answers


def capacity_qps(target: burst.Target, connections: int, where: str, params: Served, ctx: api.Context) -> float:
    """Answers per second of a server that never lacks work: some connections, each asking again when answered.

    What the connections cannot take is not sent. More is offered until the server cannot keep up with it. UserError
    when it answers nothing.
    """
    rate = 0.0
    for qps in CAPACITY_QPS:
        answers = burst.offer(
            target, CAPACITY_S, qps, ctx.scratch / "capacity.npy", ctx.seed, connections=connections,
            timeout_s=params.timeout_s,
        )  # fmt: skip
        rate = right(answers, params.layers, where).achieved_qps(CAPACITY_S)
        if rate < KEPT_UP * qps:
            break
    if not rate:
        raise api.UserError(f"it answered nothing in {CAPACITY_S:g} s of load", where=where)
    return rate


@contextmanager
def queue_watched(one: server.Server) -> Iterator[list[float]]:
    """The lengths of the server's queue while the block lasts, ten a second (fewer when the server is slow to say)."""
    lengths: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            try:
                lengths.append(float(one.stats()["queue_length"]))
            except OSError:
                continue  # too busy to say: the next look may succeed
            except (KeyError, TypeError, ValueError):
                return  # it does not tell: the list stays short, and the kind says so

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lengths
    finally:
        over.set()
        watcher.join(25)
