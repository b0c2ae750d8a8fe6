"""Proves a model repository by serving it: what has its backend here is READY and answers as its ONNX file does.

A model that this machine cannot serve is named with the reason, not passed over in silence and not faked.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from pydantic import Field

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.services import triton
from tasks.triton import config as pbtxt
from tasks.triton import repository
from tasks.triton.client import Client
from tasks.triton.repository import CONFIG, Served, Source


class Params(Base):
    models: list[str] = Field(min_length=1)  # that must be there, each with its config.pbtxt
    served: list[str] = Field(min_length=1)  # those of them that any Triton with the Python backend can serve
    tolerance: float = 1e-4


def needs(params: Params) -> Needs:
    return Needs("Triton", environment="triton", memory_gb=1)


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """Serve the folder; a refusal of the server and a wrong value are the verdict's message."""
    if not file.is_dir():
        return Verdict(False, f"there is no folder {file.name}/")
    if lost := [name for name in params.models if not (file / name).is_dir()]:
        return Verdict(False, f"{file.name}/ has no model {', '.join(lost)}")
    try:
        blocked = {name: why for name in params.models if (why := problem(file, name))}
        if refused := [f"{name}: {blocked[name]}" for name in params.served if name in blocked]:
            return Verdict(False, "; ".join(refused), {"blocked": blocked})
        errors = serve(file, [name for name in params.models if name not in blocked], params, work)
    except UserError as error:
        return Verdict(False, str(error))
    told = [f"{name} is READY and right within {error:.1e}" for name, error in errors.items()]
    told += [f"{name} is blocked: {why}" for name, why in blocked.items()]
    return Verdict(True, "; ".join(told), {"max_abs_error": errors, "blocked": blocked})


def problem(folder: Path, name: str) -> str:
    """Why the model cannot be served here, "" if it can. UserError when its configuration is none."""
    shown = f"{folder.name}/{name}/{CONFIG}"
    try:
        model = pbtxt.parse(pbtxt.read(folder / name / CONFIG), shown)
    except UserError as error:
        raise UserError(error.what, where=error.where if "/" in error.where else shown) from error
    if model.name not in ("", name):
        raise UserError(f'it says name: "{model.name}", but its folder is {name}', where=shown)
    return repository.unservable(folder / name, model)


def serve(folder: Path, names: list[str], params: Params, work: Workspace) -> dict[str, float]:
    """All models on one server; the largest error of each against its own ONNX file."""
    store = work.scratch / "repository"
    source = Source(repository=folder.name, config="", tolerance=params.tolerance)
    models = {name: repository.lay(replaced(source, name), folder.parent, store) for name in names}
    with ExitStack() as stack:
        for name in names:
            config = folder / name / CONFIG
            shown = f"{folder.name}/{name}/{CONFIG}"
            stack.enter_context(repository.refusals_named(config, shown, about=name))
        server = stack.enter_context(triton.serve(store, work.scratch / "triton.log"))
        client, errors = stack.enter_context(closing(Client(server.grpc))), {}
        for name, model in models.items():
            references = {v: repository.reference(onnx) for v, onnx in repository.onnx_files(store / name).items()}
            version = max(int(each) for each in client.server.get_model_metadata(name).versions)
            served = Served(server, client, model, references, version)
            errors[name] = repository.check(served, params.tolerance, work.seed)
        return errors


def replaced(source: Source, name: str) -> Source:
    return source.model_copy(update={"model": name})
