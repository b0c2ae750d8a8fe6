"""What day 16 measures: a real Triton with the answer model, a learner's cache client, and counters outside of both."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tasks.models import answers
from tasks.services import program, triton

LOCAL_CACHE = ("--cache-config=local,size=67108864",)
LOAD_S = 60  # a load that takes longer has failed
SETTLE_S = 0.05
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
CONTRACT = (
    "CachedTriton(triton_address, redis_url, *, model, ttl_s, invalidation, connections, timeout_s) "
    "with async infer(x), publish(version), close()"
)


@dataclass(frozen=True)
class Answers:
    """A ready Triton that serves answer models from `repository`."""

    triton: triton.Triton
    repository: Path

    def executed(self, model: str) -> int:
        """Requests that `model` has computed, all versions: `nv_inference_count`, which leaves cache hits out."""
        with urlopen(f"http://{self.triton.metrics}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(int(n) for n in re.findall(rf'^nv_inference_count{{model="{model}",[^}}]*}} (\d+)', text, re.M))

    def settled(self, model: str) -> int:
        """`executed` once it stands still: Triton counts a request a little after it has answered it."""
        before, now = -1, self.executed(model)
        while before != now:
            time.sleep(SETTLE_S)
            before, now = now, self.executed(model)
        return now

    def update(self, model: str, version: int) -> None:
        """Put `version` of `model` live; when this returns, Triton answers with it."""
        answers.add_version(self.repository, model, version)
        request = Request(f"http://{self.triton.http}/v2/repository/models/{model}/load", method="POST")
        with urlopen(request, timeout=LOAD_S):
            pass


@contextmanager
def serve(scratch: Path, models: Mapping[str, Mapping[str, Any]], *, cache: Sequence[str] = ()) -> Iterator[Answers]:
    """Serve the answer models, name → options of `answers.write`; `cache`: options of Triton's cache."""
    repository = Path(tempfile.mkdtemp(prefix="models-", dir=scratch))
    for name, options in models.items():
        answers.write(repository, name, **options)
    args = ("--model-control-mode=explicit", "--load-model=*", *cache)
    with one_blas_thread(), triton.serve(repository, scratch / "triton.log", args=args) as server:
        yield Answers(server, repository)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Processes started in the block compute on one core each: a model must not slow down the client it answers."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def load_client(file: Path) -> Any:
    """The class `CachedTriton` of a learner's file. Raises UserError when the file cannot give it."""
    return program.load(file, ["CachedTriton"], CONTRACT).CachedTriton
