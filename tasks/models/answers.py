"""The answer model: a Triton Python-backend model whose answers cost milliseconds and tell their version.

`write` lays it into a model repository; the same file is the model's `model.py`, executed by Triton's stub.
Formula: h0 = x, h(i+1) = tanh(W h(i)), answer = h(n) / 2 + version, with W a fixed (WIDTH, WIDTH) matrix.
Every element lies within 0.5 of the version, so an answer shows which version of the model gave it.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

WIDTH = 2048
LAYERS = 6
CONFIG = """name: "{name}"
backend: "python"
max_batch_size: 0
version_policy {{ latest {{ num_versions: {versions} }} }}
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
response_cache {{ enable: {cached} }}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {width} ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ {width} ] }} ]
"""


class TritonPythonModel:
    """One version of the model. Requests are answered one by one: nothing is shared between them."""

    def initialize(self, args: dict[str, str]) -> None:
        self.version = int(args["model_version"])
        self.weights = weights()

    def execute(self, requests: list[Any]) -> list[Any]:
        triton = importlib.import_module("triton_python_backend_utils")  # exists in Triton's stub only
        return [
            triton.InferenceResponse(
                [triton.Tensor("y", answer(triton.get_input_tensor_by_name(each, "x").as_numpy(), self))]
            )
            for each in requests
        ]


class Reference:
    """The same answers without Triton, to compare with: `version` may be changed between calls."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.weights = weights()

    def __call__(self, x: Any) -> Any:
        return answer(x, self)


def weights() -> Any:
    """W, shape (WIDTH, WIDTH), float32, the same in every process; scaled to keep tanh out of saturation."""
    import numpy

    return numpy.random.default_rng(90).standard_normal((WIDTH, WIDTH), numpy.float32) / numpy.float32(WIDTH**0.5)


def answer(x: Any, model: Any) -> Any:
    """The answer of `model` (its `weights`, its `version`) to `x`, both of shape (WIDTH,), float32."""
    import numpy

    for _ in range(LAYERS):
        x = numpy.tanh(model.weights @ x)
    return (x / 2 + model.version).astype(numpy.float32)


def version_of(answer: Any) -> int:
    """Which version gave this answer."""
    return round(float(answer[0]))


def write(repository: Path, name: str = "answers", *, cached: bool = False, keep_versions: int = 1) -> None:
    """Lay version 1 of model `name` into `repository`; `cached` lets Triton's response cache answer for it.

    Triton serves the newest `keep_versions` versions; a request that names none gets the newest.
    """
    folder = repository / name
    folder.mkdir(parents=True)
    config = CONFIG.format(name=name, width=WIDTH, versions=keep_versions, cached=str(cached).lower())
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    add_version(repository, name, 1)


def add_version(repository: Path, name: str, version: int) -> None:
    """Lay a further version beside the others; Triton serves it after the next load."""
    folder = repository / name / str(version)
    folder.mkdir()
    shutil.copyfile(__file__, folder / "model.py")
