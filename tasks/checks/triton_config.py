"""Proves a Triton configuration as far as that goes without a server: syntax, field types, an ensemble's DAG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.triton import config as pbtxt
from tasks.triton import dag


class Params(Base):
    form: Literal["ensemble", "several"]  # one ensemble, or several models in parts of one file
    models: list[str] = Field(
        default_factory=list
    )  # the models that the file must have parts for, or steps of the ensemble
    fields: list[Literal["instance_group", "rate_limiter"]] = Field(default_factory=list)  # that each part must set


def needs(params: Params) -> Needs:
    return Needs("protobuf", environment="triton")


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """Parse the file and name the line of everything that is wrong."""
    try:
        found = ensemble(file, params) if params.form == "ensemble" else several(file, params)
        problems, evidence = found
    except UserError as error:
        return Verdict(False, str(error))
    if problems:
        return Verdict(False, "; ".join(problems), {"problems": problems})
    return Verdict(True, "parses as ModelConfig: " + ", ".join(f"{k} {v}" for k, v in evidence.items()), evidence)


def ensemble(file: Path, params: Params) -> tuple[list[str], dict[str, Any]]:
    """Problems and evidence of an ensemble's configuration."""
    text = pbtxt.read(file)
    config = pbtxt.parse(text, file.name)
    if not config.HasField("ensemble_scheduling"):
        return [f"{file.name}: no ensemble_scheduling"], {}
    steps = {step.model_name for step in config.ensemble_scheduling.step}
    problems = [f"{file.name}:{line}: {what}" for line, what in dag.problems(config, text)]
    problems += [f"{file.name}: no step for {name}" for name in params.models if name not in steps]
    if config.platform != "ensemble":
        problems.append(f'{file.name}: platform is "{config.platform}", not "ensemble"')
    if not (config.input and config.output):
        problems.append(f"{file.name}: an ensemble needs an input and an output")
    return problems, {} if problems else {"order": " > ".join(dag.order(config)), "steps": len(steps)}


def several(file: Path, params: Params) -> tuple[list[str], dict[str, Any]]:
    """Problems and evidence of a file with several models."""
    models = pbtxt.parse_sections(file)
    problems = [f"{file.name}: no part `# === {name} ===`" for name in params.models if name not in models]
    for name, model in models.items():
        problems += [f"{file.name}: {name} has no {field}" for field in missing(model, params)]
        if not (model.backend or model.platform):
            problems.append(f"{file.name}: {name} names no backend")
    counts = {name: sum(group.count or 1 for group in model.instance_group) for name, model in models.items()}
    return problems, {name: f"with {count} instances" for name, count in counts.items()}


def missing(model: Any, params: Params) -> Iterator[str]:
    """The asked fields that a model does not set; every instance group must ask the rate limiter for something."""
    if "instance_group" in params.fields and not model.instance_group:
        yield "instance_group"
    limited = [bool(group.rate_limiter.resources) for group in model.instance_group]
    if "rate_limiter" in params.fields and not (limited and all(limited)):
        yield "rate_limiter with resources in every instance_group"
