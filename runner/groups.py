"""What the files of conf/ may say: the keys and types of each group, proved before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import Field, create_model

from runner import settings
from runner.errors import HERE, Mistakes, Problem, nearest
from runner.findings import Wrong, findings, in_file
from runner.tracking import TrackingSettings
from tasks.api import Params, UserError
from tasks.models import bert, diffusion_parts, hub, lm_training, vlm
from tasks.services.llm import engines

MADE: Mapping[str, type[Params]] = {  # the parts of a model that are made and trained on the spot
    "encoder": bert.Encoder, "lm": lm_training.Trained, "draft": lm_training.Trained, "vlm": vlm.Shape,
    "diffusion": diffusion_parts.Shape,
}  # fmt: skip


class Config(Params):
    """`conf/config.yaml`: every key of the command line with its default. Hydra proves its own parts."""

    defaults: list[Any]
    hydra: dict[str, Any]
    day: Any
    experiment: str | None
    task: str | None
    params: dict[str, Any]
    force: bool
    wait: bool
    seed: int
    lang: Literal["en", "zh"]


class Engine(Params):
    id: str


class Machine(Params):
    price_per_hour: float = Field(ge=0)
    memory_limit: float = Field(gt=0, le=1)  # of the machine's memory


class Environment(Params):
    mode: Literal["managed", "current"]


def model(given: Mapping[str, Any]) -> type[Params]:
    """A model names its parts; one that is not made on the spot says where it is: `repo` or `folder`."""
    parts: dict[str, Any] = {}
    for name, made in MADE.items():
        part = given.get(name)
        fetched = isinstance(part, Mapping) and not part.keys().isdisjoint(("repo", "folder"))
        parts[name] = ((hub.Source if fetched else made) | None, None)
    return create_model("Model", __base__=Params, id=(str, ...), **parts)


def tracking(_: Mapping[str, Any]) -> type[Params]:
    """As `TrackingSettings` has them."""
    types = get_type_hints(TrackingSettings)
    known: dict[str, Any] = {field.name: (types[field.name], field.default) for field in fields(TrackingSettings)}
    return create_model("Tracking", __base__=Params, **known)


SCHEMAS: Mapping[str, Callable[[Mapping[str, Any]], type[Params]]] = {
    "model": model, "engine": lambda _: Engine, "machine": lambda _: Machine, "tracking": tracking,
    "environment": lambda _: Environment,
}  # fmt: skip


def composed(group: str, given: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with a group as the command line changed it; its file was proved before."""
    return [Problem(HERE, ".".join((group, *key)), what, remedy) for key, what, remedy in _wrong(group, given)]


def in_files(root: Path, chosen: Iterable[tuple[str, str]]) -> list[Problem]:
    """What is wrong with conf/config.yaml and with those files beside it, each named by its group and its name."""
    found = in_file(root / "conf" / "config.yaml", root, (), partial(findings, Config))
    for group, name in chosen:
        found += in_file(root / "conf" / group / f"{name}.yaml", root, (group,), partial(_wrong, group, name=name))
    return found


def defaults(root: Path) -> dict[str, Any]:
    """Each group's default choice. Raises Mistakes with all that is wrong in their files."""
    return choices(root, settings.default_names(root))


def choices(root: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Those choices by group. Raises Mistakes with all that is wrong in their files."""
    if found := in_files(root, names.items()):
        raise Mistakes(found)
    return {group: settings.choice(root, group, name) for group, name in names.items()}


def models(root: Path) -> dict[str, dict[str, Any]]:
    """Every model that can be chosen. Raises Mistakes with all that is wrong in any of their files."""
    names = settings.choices(root, "model")
    if found := in_files(root, [("model", name) for name in names]):
        raise Mistakes(found)
    return {name: settings.choice(root, "model", name) for name in names}


def _wrong(group: str, given: Mapping[str, Any], name: str = "") -> Iterator[Wrong]:
    """Types and keys first; when they are right, whether they mean something. `name` is that of the file."""
    if found := findings(SCHEMAS[group](given), given):
        yield from found
    elif name and given.get("id", name) != name:
        yield ("id",), f"is '{given['id']}', but the file's name is '{name}'", f"write '{name}'"
    elif group == "engine" and given["id"] not in engines.TITLES:
        yield ("id",), f"no engine '{given['id']}'", nearest(given["id"], engines.TITLES, noun="engines")
    elif group == "tracking":
        try:
            TrackingSettings(**given)
        except UserError as error:
            yield ("uri",), error.what, error.remedy
