"""The learner's model repository: one of its models served with the day's config.pbtxt, checked by ONNX Runtime.

`models/<model>/config.pbtxt` and `models/<model>/<version>/…`, as Triton wants it. An experiment copies the model that
it serves, so that what it changes never reaches the learner's files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import Params as Base
from tasks.api import UserError, Workspace
from tasks.services import perf_analyzer, triton
from tasks.triton import config as pbtxt
from tasks.triton.client import Client, max_abs_error

Change = Callable[[Any], Any]  # ModelConfig -> changed ModelConfig
Reference = Callable[[Any], Any]  # the model's input [n, …] -> its output [n, …]
CONFIG = "config.pbtxt"
DIFFERENT_INPUTS = 32


class Source(Base):
    """Which model an experiment serves."""

    repository: str = "models"  # the day's folder of models
    model: str = "digits_onnx"
    config: str = CONFIG  # the day's file that is served as the model's config.pbtxt; "": the model's own
    tolerance: float = 1e-4
    window_ms: int = 300


@dataclass(frozen=True)
class Served:
    """A running server with one checked model that has one input and one output."""

    server: triton.Triton
    client: Client
    model: Any  # the ModelConfig that is served
    references: Mapping[int, Reference]  # of each version in the repository
    version: int  # the newest that is served: the one that a request without a version gets

    @property
    def grpc(self) -> str:
        return self.server.grpc

    @property
    def pid(self) -> int:
        return self.server.pid

    def plan(self, model: str, seed: int, concurrency: int, window_ms: int) -> perf_analyzer.Plan:
        """A load of single random inputs."""
        inputs = [{self.model.input[0].name: x} for x in random_inputs(self.model, seed, DIFFERENT_INPUTS)]
        return perf_analyzer.Plan(model, inputs, concurrency, window_ms=window_ms)


@contextmanager
def serve(
    source: Source,
    work: Workspace,
    log: Path,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    change: Change | None = None,
    args: Sequence[str] = (),
) -> Iterator[Served]:
    """Serve a copy of the model from `folder` (default: scratch); its answers are checked before the block.

    UserError with Triton's own message and the line of the file when the server refuses the configuration.
    """
    repository = (folder or work.scratch) / "repository"
    file = config_file(source, work.day)
    model = lay(source, work.day, repository, device=device, change=change)
    references = {version: reference(onnx) for version, onnx in onnx_files(repository / source.model).items()}
    with refusals_named(file), triton.serve(repository, log, args=args) as server:
        client = Client(server.grpc)
        version = max(int(each) for each in client.server.get_model_metadata(source.model).versions)
        served = Served(server, client, model, references, version)
        check(served, source.tolerance, work.seed)
        yield served
        client.close()


def config_file(source: Source, day: Path) -> Path:
    return day / source.config if source.config else day / source.repository / source.model / CONFIG


def lay(source: Source, day: Path, repository: Path, *, device: str = "cpu", change: Change | None = None) -> Any:
    """Copy the model into `repository`, write the configuration that is served, and return it."""
    home, file = day / source.repository / source.model, config_file(source, day)
    if not home.is_dir():
        raise UserError(f"there is no model {source.model}", where=source.repository)
    model = pbtxt.placed(pbtxt.parse(pbtxt.read(file), file.name), device)
    if model.name not in ("", source.model):
        line = pbtxt.find_line(pbtxt.read(file), r"(?m)^\s*name\s*:")
        raise UserError(
            f'it is the configuration of {source.model} but says name: "{model.name}"', where=f"{file.name}:{line}"
        )
    if problem := unservable(home, model):
        raise UserError(problem, where=f"{source.repository}/{source.model}")
    if not (len(model.input) == len(model.output) == 1):
        raise UserError("one input and one output are expected", where=file.name)
    shutil.copytree(home, repository / source.model)
    model = change(model) if change else model
    (repository / source.model / CONFIG).write_text(pbtxt.to_text(model), encoding="utf-8")
    return model


def unservable(home: Path, model: Any) -> str:
    """Why this machine's Triton cannot serve the model of folder `home`; "" when nothing speaks against it."""
    backend = model.backend or model.platform
    if backend not in (known := triton.backends()):
        return f"its backend {backend or '(none)'} is not part of this Triton, which has {', '.join(sorted(known))}"
    folders = [path for path in sorted(home.iterdir()) if path.name.isdigit()]
    if not folders:
        return "it has no version: a folder named 1, 2, …"
    # without model.py the backend's stub waits for ever, and the server with it
    lacking = [path.name for path in folders if backend == "python" and not (path / "model.py").is_file()]
    return f"version {', '.join(lacking)} has no model.py, which the Python backend runs" if lacking else ""


def onnx_files(home: Path) -> dict[int, Path]:
    """The ONNX file of each version of a model."""
    return {int(path.parent.name): path for path in sorted(home.glob("*/model.onnx")) if path.parent.name.isdigit()}


def reference(onnx: Path) -> Reference:
    """The file in ONNX Runtime without Triton, on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception type for each status code, without a common base
        raise UserError(f"ONNX Runtime cannot load it: {error}", where=f"{onnx.parent.name}/{onnx.name}") from error
    [name] = [tensor.name for tensor in session.get_inputs()]
    return lambda x: session.run(None, {name: x})[0]


def random_inputs(model: Any, seed: int, count: int) -> Any:
    """float32 [count, …], uniform in [0, 1) as the grey values of an image are."""
    import numpy

    shape = (count, *model.input[0].dims)
    return numpy.random.default_rng(seed).random(shape, dtype=numpy.float32)


def check(served: Served, tolerance: float, seed: int) -> float:
    """Batches of several sizes against the version's own ONNX file; the largest error. Also warms the model up."""
    model, version, worst = served.model, served.version, 0.0
    if version not in served.references:
        raise UserError(f"{model.name}/{version} has no model.onnx to compare its answers with")
    sizes = [size for size in (1, 3, 8) if size <= model.max_batch_size] or [1]
    for size in sizes:
        x = random_inputs(model, seed + size, size)
        answer = served.client.infer(model.name, {model.input[0].name: x}).get(model.output[0].name)
        what = f"{model.name}.{model.output[0].name} at batch {size}"
        worst = max(worst, max_abs_error(answer, served.references[version](x), what, tolerance))
    return worst


@contextmanager
def refusals_named(file: Path, shown: str = "", about: str = "") -> Iterator[None]:
    """A refusal of the server (with `about`: one that speaks of it) names the line of `file` that is to blame."""
    try:
        yield
    except UserError as error:
        if error.where or not error.what.startswith("Triton refused") or about not in error.what:
            raise
        line = blamed(file.read_text(encoding="utf-8"), error.what)
        raise UserError(error.what, where=f"{shown or file.name}:{line}", remedy=error.remedy) from error


def blamed(text: str, message: str) -> int:
    """The line of a configuration that shares most words with the message; a word that is on few lines weighs more."""
    own = re.search(r'(?m)^\s*name\s*:\s*"(.+?)"', text)
    said = set(words(message.replace(own[1], " ") if own else message))  # every message names the model
    lines = [set(words(line.partition("#")[0])) for line in text.splitlines()]

    def closeness(line: set[str]) -> tuple[float, int]:
        return sum(1 / sum(word in other for other in lines) for word in line & said), len(line & said)

    return max(range(len(lines)), key=lambda number: closeness(lines[number])) + 1


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+", text.lower())
