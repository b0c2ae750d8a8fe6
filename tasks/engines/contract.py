"""What a backend builds and what an engine can do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tasks.models.reviews import Texts

Precision = Literal["fp32", "fp16", "int8"]
Range = tuple[int, int, int]  # smallest, the one to optimise for, largest


@dataclass(frozen=True)
class Build:
    """How to build an engine from `onnx`; `work` is a folder for its files.

    `cache` keeps what a later build can reuse. `calibration` is needed for int8. What a backend has no equivalent for
    (the last three outside TensorRT) it ignores; no experiment that asks about it runs there.
    """

    onnx: Path
    work: Path
    precision: Precision = "fp32"
    batch: Range = (1, 8, 32)
    length: Range = (32, 128, 512)
    cache: Path | None = None
    calibration: Texts | None = None
    threads: int = 1
    workspace_mb: int = 0
    tactic_sources: str = ""
    hardware_compat: bool = False


class Engine(Protocol):
    """A built engine. `ran` says in which precision it really computes, `size_bytes` is what would be deployed."""

    ran: str
    size_bytes: int

    def logits(self, ids: Any, mask: Any) -> Any: ...


class Backend(Protocol):
    """A module that builds engines."""

    def build(self, plan: Build) -> Engine: ...
