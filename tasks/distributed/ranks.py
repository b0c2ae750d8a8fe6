"""Starts the ranks of a parallel run, reads what each measured, and ends them all when one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.api import Needs, UserError
from tasks.services import process

STEP_S = 240.0
TOLERANCE = 1e-5
BACKENDS = {"NCCL": "nccl", "gloo": "gloo"}  # Needs.backend → torch's name

Mode = Literal["single", "tensor", "overlap", "sequence"]


@dataclass(frozen=True)
class Step:
    """One shape in one mode. `kept` counts activations kept for a backward pass, `profile` takes time spans."""

    mode: Mode
    batch: int
    tokens: int
    hidden: int
    heads: int
    layers: int
    repeats: int
    seed: int
    kept: bool = False
    profile: bool = False


@dataclass(frozen=True)
class Seen:
    """What one rank measured of a step; spans are (start, end) in ms, a list for each profiled pass."""

    difference: float  # largest absolute one from one device
    weight_bytes: int
    comm_bytes: float  # of one pass: what a ring sends from this rank for the collectives that were called
    wire_bytes: int  # of the same pass: sent over TCP, as the kernel counted
    kept_bytes: int
    samples_ms: list[float]
    computing: list[list[tuple[float, float]]]
    talking: list[list[tuple[float, float]]]


def measure(file: Path | None, ways: int, backend: str, steps: Sequence[Step], scratch: Path) -> Iterator[list[Seen]]:
    """Each step as all ranks saw it, in order, as soon as it is there. UserError with the rank's own message.

    `file` is the learner's; None when every step is of one device.
    """
    meeting = scratch / f"meeting-{time.monotonic_ns()}"
    setup = {
        "file": str(file) if file else "", "ways": ways, "backend": BACKENDS[backend], "meeting": str(meeting),
        "steps": [asdict(step) for step in steps],
    }  # fmt: skip
    with ExitStack() as stack:
        started = [stack.enter_context(Rank(setup, rank, scratch)) for rank in range(ways)]
        for _ in steps:
            yield together(started, file.name if file else "one device")


def needs(gpus: int, unmeasured: tuple[str, ...] = ()) -> list[Needs]:
    """NCCL with a GPU for each rank; gloo between processes, a core each, in its place."""
    return [
        Needs("NCCL", environment="training", gpus=gpus, memory_gb=4, binaries=("setpriv",), unmeasured=unmeasured),
        Needs("gloo", stand_in_for="NCCL", environment="training", memory_gb=2, binaries=("setpriv",)),
    ]


def equal(seen: Sequence[Seen], where: str) -> float:
    """The largest difference of any rank from one device. UserError when a rank is wrong: nothing is timed then."""
    worst = max(one.difference for one in seen)
    if not worst <= TOLERANCE:
        raise UserError(f"the result differs from one device's by {worst:.3g}, more than {TOLERANCE:g}", where=where)
    return worst


def latencies(seen: Sequence[Seen]) -> list[float]:
    """Milliseconds of each pass: that of its slowest rank."""
    return [max(pass_ms) for pass_ms in zip(*(one.samples_ms for one in seen), strict=True)]


def together(started: Sequence[Rank], where: str) -> list[Seen]:
    """The next answer of each rank."""
    answers: dict[int, Any] = {}
    deadline = time.monotonic() + STEP_S
    while len(answers) < len(started):
        for number, rank in enumerate(started):
            if number in answers or (line := rank.answer()) is None:
                continue
            if "error" in line:
                raise UserError(line["error"].removeprefix(f"{where}: "), where=where)
            answers[number] = line
        if dead := [rank for rank in started if rank.died()]:
            raise UserError(f"rank {dead[0].number} died; its log ends:\n{process.tail(dead[0].log)}", where=where)
        if time.monotonic() > deadline:
            raise UserError(f"no answer from all ranks within {STEP_S:.0f} s", where=where)
        time.sleep(0.02)
    return [Seen(**answers[number]) for number in range(len(started))]


class Rank:
    """A rank's process and the file that its answers go to."""

    def __init__(self, setup: dict[str, Any], number: int, scratch: Path) -> None:
        self.number, self.read = number, 0
        self.out, self.log = scratch / f"rank-{number}.jsonl", scratch / f"rank-{number}.log"
        argv = [sys.executable, "-P", "-m", "tasks.distributed.rank", json.dumps({**setup, "rank": number})]
        root = Path(__file__).resolve().parents[2]
        env = {
            **os.environ, "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(root), "TORCH_CPP_LOG_LEVEL": "ERROR",
        }  # fmt: skip
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=env, process_group=0,
            )  # fmt: skip

    def __enter__(self) -> Rank:
        return self

    def __exit__(self, *fault: object) -> None:
        process.stop(self.process)

    def answer(self) -> Any:
        """The next whole line, None while there is none."""
        lines = self.out.read_bytes().split(b"\n")[:-1]
        if len(lines) <= self.read:
            return None
        self.read += 1
        return json.loads(lines[self.read - 1])

    def died(self) -> bool:
        """Whether it ended in failure and has said all that it had to say."""
        return bool(self.process.poll()) and len(self.out.read_bytes().split(b"\n")) - 1 <= self.read
