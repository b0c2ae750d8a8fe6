"""A knowledge map as its writer gives it: concepts by week, what each builds on, and the experiment that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from tasks import api
from tasks.documents.stored import Record

EXPERIMENT = r"^[\w.-]+/[\w.-]+$"


class Title(api.Params):
    en: str = Field(min_length=1)
    zh: str = Field(min_length=1)


class Concept(api.Params):
    """`needs` are concepts that must be understood first; `metric` of the experiment `shown_by` is its figure."""

    title: Title
    week: int = Field(ge=1)
    needs: list[str] = Field(default_factory=list)
    shown_by: str = Field(pattern=EXPERIMENT)
    metric: str


class Map(api.Params):
    concepts: dict[str, Concept] = Field(min_length=2)

    def links(self) -> list[tuple[str, str]]:
        """(what is needed, what needs it)."""
        return [(need, name) for name, concept in self.concepts.items() for need in concept.needs]


def read(file: Path) -> Map:
    """The map of a YAML file. UserError when it is none."""
    try:
        return Map.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise api.UserError(f"{place}: {first['msg']}", where=file.name) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise api.UserError(f"cannot be read: {error}", where=file.name) from error


def measured(concept: Concept, records: Mapping[str, Record]) -> bool:
    """Whether a record holds the concept's figure."""
    record = records.get(concept.shown_by)
    return record is not None and any(concept.metric in row["metrics"] for row in record["rows"])


def faults(given: Map, weeks: int) -> list[str]:
    """What keeps it from being a map of the weeks 1 to `weeks`: gaps, unknown or circular needs, islands."""
    known = given.concepts
    found = [f"{name} needs {need}, which is not in the map" for need, name in given.links() if need not in known]
    found += [
        f"{name} (week {known[name].week}) needs {need}, which comes in week {known[need].week}"
        for need, name in given.links()
        if need in known and known[need].week > known[name].week
    ]
    bare = sorted(set(range(1, weeks + 1)) - {concept.week for concept in known.values()})
    found += [f"week {week} has no concept" for week in bare]
    try:
        TopologicalSorter({name: concept.needs for name, concept in known.items()}).prepare()
    except CycleError as error:
        found.append(f"in a circle: {' → '.join(error.args[1])}")
    linked = {end for link in given.links() for end in link}
    return found + [f"{name} is linked with nothing" for name in known if name not in linked]
