"""What a backend builds and what an engine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tasks.models import digits, reviews
from tasks.onnx import graph, images

Precision = Literal["fp32", "fp16", "int8"]
Range = tuple[int, int, int]  # smallest, the one to optimise for, largest
Shapes = tuple[tuple[int, ...], ...]  # the same three of a whole input


@dataclass(frozen=True)
class Build:
    """How to build an engine from `onnx`; `work` is a folder for its files.

    `image` is the shape of one image (channels, height, width); without one the inputs are texts of `length` tokens.
    `cache` keeps what a later build can reuse. `calibration` is needed for int8: batches of the inputs' arrays. What a
    backend has no equivalent for (the last three outside TensorRT) it ignores; no experiment that asks runs there.
    """

    onnx: Path
    work: Path
    precision: Precision = "fp32"
    batch: Range = (1, 8, 32)
    length: Range = (32, 128, 512)
    image: tuple[int, ...] = ()
    cache: Path | None = None
    calibration: Sequence[tuple[Any, ...]] | None = None
    per_channel: bool = True  # int8: one scale for each output channel of a weight, or one for the whole tensor
    threads: int = 1
    workspace_mb: int = 0
    tactic_sources: str = ""
    hardware_compat: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        return (images.INPUT,) if self.image else graph.INPUTS

    @property
    def classes(self) -> int:
        return digits.CLASSES if self.image else len(reviews.LABELS)

    @property
    def shapes(self) -> Mapping[str, Shapes]:
        """What each input's shape may be: smallest, the one to optimise for, largest."""
        if self.image:
            return {images.INPUT: tuple((size, *self.image) for size in self.batch)}
        return {name: tuple(zip(self.batch, self.length, strict=True)) for name in graph.INPUTS}


class Engine(Protocol):
    """A built engine. `ran` says in which precision it really computes, `size_bytes` is what would be deployed.

    `logits` takes the arrays of the inputs in the order of `Build.inputs`.
    """

    ran: str
    size_bytes: int

    def logits(self, *inputs: Any) -> Any: ...


class Deployable(Engine, Protocol):
    """An engine that can be kept: `blob` is the content of its file, which the backend's `load` reads."""

    def blob(self) -> bytes: ...


class Backend(Protocol):
    """A module that builds engines."""

    def build(self, plan: Build) -> Engine: ...
