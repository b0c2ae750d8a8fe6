"""Proves a Triton client by running it: right over both protocols, and an error where it names no existing model."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.triton import learner_client, repository
from tasks.triton.client import max_abs_error

PROTOCOLS: tuple[Literal["http", "grpc"], ...] = ("http", "grpc")
NO_MODEL = "no_such_model"
IMAGES = 5


class Params(Base):
    models: str = "models"  # the folder of models beside the file
    model: str = "digits_onnx"
    tolerance: float = 1e-4


def needs(params: Params) -> Needs:
    return Needs("Triton", environment="triton", memory_gb=1)


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """Start Triton, run the program over each protocol, ask it for a model that is not there, load its class."""
    if not file.is_file():
        return Verdict(False, f"there is no {file.name}")
    source = repository.Source(repository=params.models, model=params.model, config="", tolerance=params.tolerance)
    try:
        make = learner_client.load(file)
        with repository.serve(source, replace(work, day=file.parent), work.scratch / "triton.log") as served:
            images = repository.random_inputs(served.model, work.seed + 1, IMAGES)
            expected = served.references[served.version](images)
            errors = {each: ask(file, each, served, images, expected, params, work) for each in PROTOCOLS}
            for protocol in PROTOCOLS:
                refuse(file, protocol, served, images, work)
            with closing(make("grpc", served.grpc, params.model)) as client:
                max_abs_error(client.infer(images), expected, "Client.infer over grpc", params.tolerance)
    except UserError as error:
        return Verdict(False, str(error))
    except Exception as error:  # whatever the learner's class raises
        return Verdict(False, f"Client: {type(error).__name__}: {error}")
    told = " and ".join(f"{name} within {error:.1e}" for name, error in errors.items())
    return Verdict(True, f"right over {told}; a wrong model name ends with an error", {"max_abs_error": errors})


def address(served: repository.Served, protocol: str) -> str:
    return served.server.http if protocol == "http" else served.server.grpc


def ask(
    file: Path, protocol: Literal["http", "grpc"], served: repository.Served, images: object, expected: object,
    params: Params, work: Workspace,
) -> float:  # fmt: skip
    """The largest error of the program's answer."""
    answer = learner_client.ask(file, protocol, address(served, protocol), params.model, images, work.scratch)
    if answer.status != 0:
        raise UserError(f"over {protocol} it ended with {answer.status}: {answer.said}", where=file.name)
    return max_abs_error(answer.array, expected, f"{file.name} over {protocol}", params.tolerance)


def refuse(
    file: Path, protocol: Literal["http", "grpc"], served: repository.Served, images: object, work: Workspace
) -> None:
    """UserError unless the program says by its exit status that there is no such model."""
    answer = learner_client.ask(file, protocol, address(served, protocol), NO_MODEL, images, work.scratch)
    if answer.status == 0:
        raise UserError(f"over {protocol} it ended with 0 although there is no model {NO_MODEL}", where=file.name)
