"""Proves high_concurrency_demo.py under load: whose answers, how long a queue, how large a batch, who is told to wait.

The served model is the checker's own and slow on purpose; it counts its batches itself.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pydantic import Field

from tasks import api
from tasks.api import Verdict
from tasks.services import process
from tasks.services.burst import REFUSED

MODEL = """
import os, time
LOG = open(os.environ["BATCH_LOG"], "a", buffering=1)

def infer(tokens):
    LOG.write(f"{len(tokens)}\\n")
    time.sleep(0.05)
    return [token * 0.5 + 1000.0 for token in tokens]
"""
FLOOD, TRICKLE = 200, 40
CLIENTS = 100  # at once: more than the queue and a batch hold together
PROMPT_S = 2.0  # a refusal that takes longer is no back-pressure


class Params(api.Params):
    queue_limit: int = Field(default=10, ge=1)
    batch_limit: int = Field(default=4, ge=2)
    max_delay_ms: float = Field(default=20.0, ge=1)


class Broken(Exception):
    """What the server did wrong."""


@dataclass(frozen=True)
class Reply:
    number: int
    token: int
    status: int
    said: Any
    seconds: float


@dataclass(frozen=True)
class Server:
    port: int
    log: Path

    def batches(self) -> list[int]:
        return [int(line) for line in self.log.read_text(encoding="utf-8").splitlines()] if self.log.exists() else []

    def ask(self, number: int) -> Reply:
        token = 7 * number + 3
        body = json.dumps({"id": number, "token": token}).encode()
        asked = Request(f"http://{process.LOOPBACK}:{self.port}/infer", body, {"Content-Type": "application/json"})
        began = time.perf_counter()
        try:
            with urlopen(asked, timeout=20) as answer:
                status, said = answer.status, json.load(answer)
        except HTTPError as error:
            status, said = error.code, None
        except (OSError, ValueError) as error:
            raise Broken(f"request {number}: {type(error).__name__}: {error}") from error
        return Reply(number, token, status, said, time.perf_counter() - began)

    def flood(self, numbers: range, clients: int) -> list[Reply]:
        start = threading.Barrier(clients, timeout=20)

        def one(first: int) -> list[Reply]:
            start.wait()
            return [self.ask(number) for number in numbers[first::clients]]

        with ThreadPoolExecutor(clients) as pool:
            return [reply for replies in pool.map(one, range(clients)) for reply in replies]


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="asyncio server", environment="triton", binaries=("setpriv",), memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return Verdict(False, f"{file.name} is missing or empty")
    model, batches, port = work.scratch / "model.py", work.scratch / "batches.log", process.free_port()
    model.write_text(MODEL, encoding="utf-8")
    server = Server(port, batches)
    argv = [
        sys.executable, str(file), "--port", str(port), "--model", str(model), "--queue-limit", str(params.queue_limit),
        "--batch-limit", str(params.batch_limit), "--max-delay-ms", f"{params.max_delay_ms:g}",
    ]  # fmt: skip

    def ready() -> bool:
        urlopen(f"http://{process.LOOPBACK}:{port}/stats", timeout=5).close()
        return True

    try:
        with process.serve(
            argv, log=work.scratch / "server.log", ready=ready, env={"BATCH_LOG": str(batches)}, timeout_s=30
        ):
            return judged(server, params)
    except api.UserError as error:
        return Verdict(False, str(error))
    except Broken as fault:
        return Verdict(False, str(fault))


def judged(server: Server, params: Params) -> Verdict:
    trickle = server.flood(range(TRICKLE), params.batch_limit)
    own(trickle)
    if max(server.batches(), default=0) < 2:
        raise Broken(f"{params.batch_limit} requests at a time went through the model one by one: nothing is batched")
    replies = server.flood(range(1000, 1000 + FLOOD), CLIENTS)
    own(replies)
    refused = [reply for reply in replies if reply.status in REFUSED]
    if not refused:
        raise Broken(
            f"{CLIENTS} requests at once, a queue of {params.queue_limit}, and none was refused with 429 or 503"
        )
    if (slow := max(reply.seconds for reply in refused)) > PROMPT_S:
        raise Broken(f"a refusal took {slow:.1f} s: the server keeps whom it has no place for")
    if (largest := max(server.batches())) > params.batch_limit:
        raise Broken(f"a batch of {largest} went through the model; the limit is {params.batch_limit}")
    waits_bounded(replies, params)
    accepted = sum(reply.status == 200 for reply in trickle + replies)
    if (computed := sum(server.batches())) != accepted:
        raise Broken(f"{accepted} requests were answered, but the model computed {computed}")
    evidence = {"answered": accepted, "refused": len(refused), "largest batch": largest}
    return Verdict(
        True,
        f"all {accepted} answers are those of their own requests; {len(refused)} were refused at once;"
        f" no batch exceeds {params.batch_limit}",
        evidence,
    )


def own(replies: list[Reply]) -> None:
    """Every reply is a refusal or the right answer to its own request."""
    for reply in replies:
        if reply.status in REFUSED:
            continue
        if reply.status != 200:
            raise Broken(f"request {reply.number} got {reply.status}")
        right = {"id": reply.number, "output": reply.token * 0.5 + 1000.0}
        if not isinstance(reply.said, dict) or any(reply.said.get(key) != value for key, value in right.items()):
            raise Broken(f"request {reply.number} was answered {reply.said}, not {right}")


def waits_bounded(replies: list[Reply], params: Params) -> None:
    """Nobody waits for more than a full queue, a batch being computed and some scheduling."""
    batches = params.queue_limit / params.batch_limit + 2
    allowed = 4 * batches * 0.05 + PROMPT_S
    longest = max((reply.seconds for reply in replies if reply.status == 200), default=None)
    if longest is None:
        raise Broken(f"{CLIENTS} requests at once, and not one of them was answered")
    if longest > allowed:
        raise Broken(f"an accepted request waited {longest:.1f} s; its queue explains {allowed:.1f} s at most")
