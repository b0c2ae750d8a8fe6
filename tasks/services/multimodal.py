"""The multimodal service (`multimodal_demo.py serve`): started with its parts, asked over HTTP, stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tasks.api import UserError
from tasks.services import process

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Service:
    address: str

    def paint(self, prompt: str, seed: int, steps: int) -> bytes:
        """The PNG for a prompt."""
        wish = json.dumps({"prompt": prompt, "seed": seed, "steps": steps}).encode()
        return self.post("/pictures", wish, "application/json")

    def caption(self, picture: bytes, question: str) -> str:
        answer = json.loads(self.post(f"/captions?{urlencode({'question': question})}", picture, "image/png"))
        return str(answer["text"])

    def post(self, path: str, body: bytes, kind: str) -> bytes:
        """The answer's body. UserError with the service's own words when it refuses."""
        status, answer = self.tried(path, body, kind)
        if status != 200:
            raise UserError(f"{path} answered {status}: {answer.decode(errors='replace')[:300]}")
        return answer

    def tried(self, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        """Status and body, whatever they are."""
        try:
            with urlopen(Request(self.address + path, body, {"Content-Type": kind}), timeout=TIMEOUT_S) as answer:
                return int(answer.status), answer.read()
        except HTTPError as refused:
            return refused.code, refused.read()


@contextmanager
def serve(
    script: Path, folder: Path, *, painter: Path | None = None, reader: Path | str = "", timeout_s: float = 180
) -> Iterator[Service]:
    """Run the script in this environment until the block ends; ready means that /health names every part asked for.

    `reader` is a model's folder or the address of a server. UserError with its last words when it does not come up.
    """
    if not script.is_file():
        raise UserError(f"there is no {script.name}", where=str(script.parent))
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "multimodal.log"
    start = log.stat().st_size if log.exists() else 0
    parts: dict[str, Any] = {"painter": painter, "reader": reader}
    given = [word for name, where in parts.items() if where for word in (f"--{name}", str(where))]
    argv = [sys.executable, str(script.resolve()), "serve", "--port", "0", *given]
    with process.serve(argv, log=log, ready=lambda: whole(log, start, parts), cwd=folder, timeout_s=timeout_s):
        yield Service(announced(log, start))


def whole(log: Path, start: int, parts: dict[str, Any]) -> bool:
    address = announced(log, start)
    if not address:
        return False
    with urlopen(f"{address}/health", timeout=5) as answer:
        said = json.load(answer)
    missing = [name for name, where in parts.items() if bool(where) != bool(said.get(name))]
    if missing:
        raise UserError(
            f"/health says {said}, but {' and '.join(missing)} should be otherwise", where="multimodal_demo"
        )
    return True


def announced(log: Path, start: int) -> str:
    """The address in the JSON line with which the service says where it answers; empty before it does."""
    for line in log.read_bytes()[start:].splitlines():
        if line.startswith(b'{"address"'):
            return str(json.loads(line)["address"])
    return ""
