"""What a kind, a checker and the runner agree on. Standard library and pydantic only.

A *kind* is a module with `Params`, `Point`, `METRICS`, `needs` and `run` (see `Kind`); a *checker* is a module
with `Params`, `needs` and `check` (see `Check`). Both run in a child process, in the environment they ask for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict


class UserError(Exception):
    """A mistake or a lack that the user can mend: shown as text, never as a traceback."""

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__("\n  ".join(part for part in (f"{where}: {what}" if where else what, remedy) if part))


class Params(BaseModel):
    """Base of every `Params` and `Point`: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


@dataclass(frozen=True)
class Needs:
    """What a backend needs from the machine. The first of a kind's list that the machine meets is used.

    `backend` is the system that is measured. `stand_in_for` names the system that the experiment asks for when
    the backend only stands in for it; the record's tier is then `stand-in`.
    """

    backend: str
    stand_in_for: str = ""
    environment: str = "runner"
    binaries: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()  # importable in the environment, beyond what its lock installs (vendor packages)
    gpus: int = 0
    gpu_models: int = 1  # how many *different* GPU models
    cluster: bool = False  # a reachable Kubernetes cluster
    memory_gb: float = 0.5
    settings: tuple[str, ...] = ()  # groups of conf/ that the measurement depends on ("model", "engine", "machine")
    unmeasured: tuple[str, ...] = ()  # metrics that this backend cannot measure, or not at every point
    also: tuple[str, ...] = ()  # other environments, whose interpreters the kind starts (`Context.pythons`)

    @property
    def environments(self) -> tuple[str, ...]:
        """Every environment that it uses, its own first."""
        return (self.environment, *self.also)

    @property
    def tier(self) -> str:
        return "stand-in" if self.stand_in_for else "native"


@dataclass(frozen=True)
class Spread:
    """How a repeated measurement scattered: sample count, median, tails, standard deviation, in the metric's unit."""

    n: int
    p50: float
    p95: float
    p99: float
    stdev: float


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check on one deliverable, with the evidence (figures, first mismatches)."""

    ok: bool
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workspace:
    """Where a kind or a checker works.

    `day` is the learner's folder (`artifacts/week03/day18`): files laid there are what is executed.
    `scratch` is private and deleted afterwards. `settings` holds the composed `model`, `engine` and `machine` groups.
    `pythons` are the interpreters of the environments that `Needs.also` names.
    `records` are the record files that this work may read (documents and report checks).
    """

    day: Path
    scratch: Path
    settings: Mapping[str, Any]
    seed: int = 90
    records: Sequence[Path] = ()
    pythons: Mapping[str, Path] = field(default_factory=dict)

    def stored(self) -> Iterator[dict[str, Any]]:
        """The records given to this work, each with its measured rows under `rows`."""
        for path in self.records:
            record = json.loads(path.read_text(encoding="utf-8"))
            record["rows"] = read_rows(path.with_name("rows.jsonl"), record["spec"])
            yield record


@dataclass(frozen=True)
class Context(Workspace):
    """A kind's view of its job. `points` are the points still to be measured, as instances of the kind's `Point`."""

    out: Path = Path()  # the experiment's own folder: plots and raw results that are kept
    points: Sequence[Any] = ()
    backend: str = ""
    tier: str = "native"
    spec: str = ""

    def record(
        self,
        point: Params,
        metrics: Mapping[str, float],
        spread: Mapping[str, Spread] | None = None,
        note: str = "",
    ) -> None:
        """Store a measured point durably (one fsynced line); a resumed run will not measure it again."""
        spreads = {name: vars(value) for name, value in (spread or {}).items()}
        found = {name: float(value) for name, value in metrics.items()}
        self._append(point, "measured", metrics=found, spread=spreads, note=note)

    def blocked(self, point: Params, reason: str, remedy: str) -> None:
        """Say durably that this machine cannot measure a point, and what would help. It counts as not measured."""
        axes = ", ".join(f"{axis}={value}" for axis, value in point.model_dump(exclude_unset=True).items())
        note = ": ".join(filter(None, (axes, f"{reason}; {remedy}")))
        self._append(point, f"blocked: {reason}", metrics={}, spread={}, note=note, blocked=reason, remedy=remedy)

    def _append(self, point: Params, said: str, **row: Any) -> None:
        where = point.model_dump(mode="json", exclude_unset=True)
        append_row(self.out / "rows.jsonl", {"spec": self.spec, "point": where, **row, "at": time.time()})
        self.say(f"point {json.dumps(where, ensure_ascii=False)} {said}")

    def say(self, message: str) -> None:
        """A line for the experiment's log; the runner shows the last one beside the progress bar."""
        print(message, flush=True)


AnyParams = type[Params]


class Kind(Protocol):
    """One way of measuring. `METRICS` maps every metric the kind can record to its meaning; units are in the name."""

    @property
    def __name__(self) -> str: ...  # a kind is a module
    @property
    def Params(self) -> AnyParams: ...
    @property
    def Point(self) -> AnyParams: ...
    @property
    def METRICS(self) -> Mapping[str, str]: ...

    def needs(self, params: Any) -> Sequence[Needs]: ...

    def run(self, params: Any, ctx: Context) -> None: ...


class Check(Protocol):
    """One way of proving a deliverable by what it does."""

    @property
    def __name__(self) -> str: ...  # a checker is a module
    @property
    def Params(self) -> AnyParams: ...

    def needs(self, params: Any) -> Needs: ...

    def check(self, file: Path, params: Any, work: Workspace) -> Verdict: ...


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line and force it to disk. A torn last line of a killed writer is closed first."""
    line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        left = memoryview(line)
        while left:  # a disk that is nearly full takes a part first, and refuses the rest
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_rows(path: Path, spec: str) -> list[dict[str, Any]]:
    """The rows of one specification, the last one of each point; torn lines of a killed writer are passed over."""
    rows: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("spec") == spec:
            rows[json.dumps(row["point"], sort_keys=True)] = row
    return list(rows.values())
