"""The two models of day 18 on one server: the learner's configurations in front of networks of a chosen size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import Params as Base
from tasks.api import UserError, Workspace
from tasks.services import model_repository, perf_analyzer, triton
from tasks.triton import config as pbtxt
from tasks.triton.client import Client, max_abs_error
from tasks.triton.onnx_models import FEATURES, ROWS, Mlp

A, B = "model_a", "model_b"
Change = Callable[[str, Any], Any]  # model name, ModelConfig -> changed ModelConfig


class Size(Base):
    """The network behind a model: `layers` square layers of `hidden` units."""

    hidden: int = 384
    layers: int = 4


class Pair(Base):
    """What every experiment with the two models asks for."""

    config: str = "multi_model_config.pbtxt"  # the day's file whose parts are served
    model_a: Size = Size()
    model_b: Size = Size()
    tolerance: float = 1e-4
    window_ms: int = 400


@dataclass(frozen=True)
class Served:
    """A running server with checked models."""

    grpc: str
    metrics: str
    pid: int
    client: Client
    networks: Mapping[str, Mlp]

    def plan(self, model: str, seed: int, concurrency: int, window_ms: int) -> perf_analyzer.Plan:
        """A load of fresh random requests on one model."""
        return perf_analyzer.Plan(model, [{"x": x} for x in random_rows(seed, 32)], concurrency, window_ms=window_ms)


@contextmanager
def serve(
    pair: Pair,
    file: Path,
    work: Workspace,
    log: Path,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    change: Change | None = None,
    args: tuple[str, ...] = (),
) -> Iterator[Served]:
    """Serve the models of `file` from `folder` (default: scratch), each checked against numpy before the block."""
    models = pbtxt.parse_sections(file)
    if missing := {A, B} - set(models):
        raise UserError(f"no part for {', '.join(sorted(missing))}", where=file.name)
    if unknown := set(models) - {A, B}:
        raise UserError(f"there is no network for {', '.join(sorted(unknown))}, only for {A} and {B}", where=file.name)
    networks = {A: network(pair.model_a, work.seed), B: network(pair.model_b, work.seed + 1)}
    folder = folder or work.scratch
    repository = folder / "repository"
    repository.mkdir(parents=True)
    for name, mlp in networks.items():
        model = pbtxt.placed(models[name], device)
        text = pbtxt.to_text(change(name, model) if change else model)
        onnx = folder / f"{name}.onnx"
        mlp.save(onnx)
        model_repository.add_onnx_model(repository, name, text, onnx)
    with triton.serve(repository, log, args=args) as server:
        client = Client(server.grpc)
        check(client, networks, pair.tolerance, work.seed)
        yield Served(server.grpc, server.metrics, server.pid, client, networks)
        client.close()


def network(size: Size, seed: int) -> Mlp:
    return Mlp(size.hidden, size.layers, seed)


def check(client: Client, networks: Mapping[str, Mlp], tolerance: float, seed: int) -> None:
    """Both models answer as their numpy reference does; UserError otherwise. Also warms both up."""
    for name, mlp in networks.items():
        for batch in (1, 4):
            x = random_rows(seed + batch, batch)
            max_abs_error(client.infer(name, {"x": x}).get("y"), mlp.reference(x), f"{name}.y", tolerance)


def random_rows(seed: int, count: int) -> Any:
    """float32 [count, 8, 8], standard normal."""
    import numpy

    return numpy.random.default_rng(seed).standard_normal((count, ROWS, FEATURES), dtype=numpy.float32)
