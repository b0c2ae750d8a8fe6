"""A language-model server that answers: where it is, what it serves, and why one did not come up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import process

WARM_UP_S = 120.0  # the first sampled answer of a vLLM on a busy CPU took half a minute
CAUSES = (  # what a log says, what it means, what helps; the first match wins
    (r"address already in use|\[Errno 98\]", "port", "another process took the port: run it again"),
    (
        r"out ?of ?memory|cannot allocate memory|bad_alloc|no available memory|kv cache is needed|free memory on device"
        r"|insufficient (?:available )?memory|larger than the available",
        "memory",
        "shorten max_model_len, give the KV cache more room, or take a smaller or quantized model",
    ),
    (
        r"max_model_len|maximum number of tokens|max_position_embeddings",
        "length",
        "take a max_model_len that the model's positions and the KV cache allow",
    ),
    (r"tokenizer", "tokenizer", "give the model's folder its tokenizer.json and tokenizer_config.json"),
    (
        r"\bdtype|bfloat16|float16|\bbf16|\bfp8|not supported for quantization|quantization method",
        "dtype",
        "take a precision that this device has: bfloat16 or float32",
    ),
)
KILLED = re.compile(r"exited with -9 ")
ROOT_CAUSE = re.compile(r"^.*?\b((?:\w+\.)*\w*(?:Error|Exception|error): .*)$", re.MULTILINE)
AFTERMATH = ("Engine core initialization failed", "WorkerProc initialization failed", "EngineCore failed to start")


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
def serve(
    name: str, argv: Sequence[str], port: int, model: str, *, log: Path,
    env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout_s: float = 180, stop_s: float = 15,
) -> Iterator[Endpoint]:  # fmt: skip
    """Start a server, wait until it has really completed a prompt, stop it with the block.

    Raises UserError with the last lines of its log and the likely cause when it does not come up.
    """
    address = f"http://{process.LOOPBACK}:{port}"
    started = process.serve(
        argv, log=log, ready=lambda: healthy(address), env=env, cwd=cwd, timeout_s=timeout_s, stop_s=stop_s
    )
    with ExitStack() as stack:
        try:
            server = stack.enter_context(started)
            warm_up(address, model)
        except (UserError, OSError) as error:
            raise diagnosed(name, str(error), log) from error
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


def diagnosed(name: str, what: str, log: Path) -> UserError:
    """The failure to start with its likely cause: memory, port, length, tokenizer or dtype."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    text = "\n".join(line for line in lines if "WARNING" not in line)  # a hint that comes at every start is no cause
    roots = [line for line in ROOT_CAUSE.findall(text) if not any(words in line for words in AFTERMATH)]
    said = roots[-1] if roots else ""
    known = (found for found in CAUSES if re.search(found[0], said or text, re.IGNORECASE))
    killed = ("", "memory", "it was killed: take a smaller model, a smaller cache or a larger machine")
    _, cause, remedy = killed if KILLED.search(what) else next(known, ("", "", ""))
    more = [f"it says: {said}" if said else "", f"likely cause: {cause}" if cause else ""]
    return UserError("\n".join([what, *filter(None, more)]), where=name, remedy=remedy)
