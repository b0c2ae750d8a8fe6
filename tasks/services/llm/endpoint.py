"""A language-model server that answers: where it is, what it serves, and whether it is still there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import process
from tasks.services.llm import diagnosis
from tasks.services.llm.diagnosis import DeadServerError, NotStartedError

START_S = 600.0  # a large model from a cold disk, then converted or compiled
WARM_UP_S = 120.0  # the first sampled answer of a vLLM on a busy CPU took half a minute
LEAVING_S = 15.0
ATTEMPTS = 2  # a free port can be taken by another process before the server binds it
ENDED = "the server ended during the load"


@dataclass(frozen=True)
class Endpoint:
    """A server that has completed a prompt. `address` is `http://127.0.0.1:port` (the API is under `/v1`).

    `model` is the name it serves under; `pid` leads the server's process group.
    """

    address: str
    model: str
    log: Path
    pid: int


@contextmanager
def on_free_port(name: str, argv: Callable[[int], Sequence[str]], model: str, **how: Any) -> Iterator[Endpoint]:
    """`serve` on a port of its own choice; once more on another one when that was taken in the meantime."""
    with ExitStack() as stack:
        for left in reversed(range(ATTEMPTS)):
            port = process.free_port()
            try:
                server = stack.enter_context(serve(name, argv(port), port, model, **how))
                break
            except NotStartedError as error:
                if not left or error.cause != "port":
                    raise
        yield server


@contextmanager
def serve(
    name: str, argv: Sequence[str], port: int, model: str, *, log: Path,
    env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = START_S, stop_s: float = 15,
) -> Iterator[Endpoint]:  # fmt: skip
    """Start a server, wait until it has really completed a prompt, stop it with the block.

    Raises NotStartedError with the last lines of its log and the likely cause when it does not come up.
    """
    address = f"http://{process.LOOPBACK}:{port}"
    since = log.stat().st_size if log.exists() else 0  # what an earlier server wrote there is not this one's
    started = process.serve(
        argv, log=log, ready=lambda: healthy(address), env=env, cwd=cwd, timeout_s=timeout_s, stop_s=stop_s
    )
    with ExitStack() as stack:
        try:
            server = stack.enter_context(started)
            warm_up(address, model)
        except (UserError, OSError) as error:
            found = diagnosis.find(log, str(error), since)
            raise NotStartedError(
                found.told(str(error)), where=name, remedy=found.remedy, cause=found.cause,
                brief=found.brief(f"{name} did not start"),
            ) from error  # fmt: skip
        yield Endpoint(address, model, log, server.pid)


def healthy(address: str) -> bool:
    with urlopen(f"{address}/health", timeout=5) as answer:
        return bool(answer.status == 200)


def warm_up(address: str, model: str) -> None:
    """A greedy and a sampled completion: whatever is set up lazily is set up before anything is measured."""
    for sampling in ({"temperature": 0}, {"temperature": 1, "top_p": 0.9, "seed": 1}):
        asked = {"model": model, "prompt": "Say something.", "max_tokens": 4, **sampling}
        answer = post(f"{address}/v1/completions", asked, WARM_UP_S)
        if not answer.get("choices"):
            raise UserError(f"{model} was started but completed nothing: {answer}")


def post(url: str, body: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """The JSON answer of a JSON request. A refusal is a UserError with the server's own words."""
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=timeout_s) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except HTTPError as error:
        raise UserError(f"{url} answered {error.code}: {error.read().decode(errors='replace')[:600]}") from error
    except ValueError as error:
        raise UserError(f"{url} answered something that is not JSON: {error}") from error


def explained(server: Endpoint, error: Exception) -> UserError:
    """What to raise for a request that went wrong: a server that died is told apart from one that refuses."""
    said = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    if dead(server):
        what = f"{ENDED} ({said})"
        found = diagnosis.find(server.log, what)
        return DeadServerError(
            found.told(f"{what}; its log ends:\n{process.tail(server.log)}"), where=server.model,
            remedy=found.remedy, cause=found.cause, brief=found.brief(what),
        )  # fmt: skip
    return error if isinstance(error, UserError) else UserError(f"it does not answer: {said}", where=server.model)


def dead(server: Endpoint) -> bool:
    """Whether the server has ended, is ending (vLLM answers 503 once its engine is gone) or no longer listens."""
    deadline = time.monotonic() + LEAVING_S
    while time.monotonic() < deadline and running(server.pid):
        try:
            return not healthy(server.address)
        except HTTPError:
            return True
        except OSError:
            time.sleep(0.1)  # it no longer listens
    return True


def running(pid: int) -> bool:
    """Whether the process runs: one that has ended stays listed, as a zombie, until it is waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
