"""A knowledge map: sound in itself, every concept in the document and the picture, every number in a record."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.checks.report_numbers import read, told
from tasks.documents import audit, concepts, stored
from tasks.documents.concepts import Map


class Params(api.Params):
    """`source` is the map as its writer gave it; `measured_pct` of the concepts must have been measured."""

    source: str = "knowledge_map.yaml"
    picture: str = "knowledge_map.svg"
    weeks: int = Field(default=11, ge=1)
    measured_pct: float = Field(default=80, ge=0, le=100)


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    try:
        given = concepts.read(file.parent / params.source)
    except api.UserError as error:
        return api.Verdict(False, str(error))
    records = [record for record in stored.load(work.records) if record["status"] == "passed"]
    text = read(file)
    found = audit.audit(text, records)
    faults = concepts.faults(given, params.weeks) + found.faults + left_out(given, text, file.parent / params.picture)
    by_name = {stored.name(record): record for record in records}
    shown = sum(concepts.measured(concept, by_name) for concept in given.concepts.values())
    if 100 * shown < params.measured_pct * len(given.concepts):
        faults.append(f"{shown} of {len(given.concepts)} concepts were measured: run the earlier weeks first")
    evidence = {"concepts": len(given.concepts), "measured": shown, "numbers": found.numbers, "faults": faults[:20]}
    if faults:
        return api.Verdict(False, told(faults), evidence)
    links = len(given.links())
    return api.Verdict(True, f"{len(given.concepts)} concepts, {links} links, {shown} measured", evidence)


def left_out(given: Map, text: str, picture: Path) -> list[str]:
    """Concepts that the document or the picture does not name."""
    try:
        drawn = {node.text for node in ET.parse(picture).getroot().iter() if node.text}
    except (OSError, ET.ParseError) as error:
        return [f"{picture.name} is no picture: {error}"]
    titles = {concept.title.en for concept in given.concepts.values()}
    missing = [f"the document does not name “{title}”" for title in sorted(titles) if title not in text]
    return missing + [f"the picture does not show “{title}”" for title in sorted(titles - drawn)]
