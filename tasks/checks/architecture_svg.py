"""The architecture picture: an SVG that names the wanted parts, and none that no passed record proves to have run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from tasks import api
from tasks.checks.report_numbers import told
from tasks.documents import architecture, stored


class Params(api.Params):
    """The parts that the picture must show: redis, ensemble, multi_model, bert, autoscaling."""

    parts: list[str]


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """Reads what the picture says in words; a part counts when a word for it stands there."""
    try:
        words = said(file)
    except (OSError, ET.ParseError) as error:
        return api.Verdict(False, f"not an SVG picture: {error}")
    if words is None:
        return api.Verdict(False, "not an SVG picture: its root is no <svg>")
    faults = [f"“{name}” is shown, but no passed record proves that it ran" for name in unproved(words, work)]
    faults += [f"the part “{name}” is missing" for name in architecture.missing(words, params.parts)]
    evidence = {"parts": [part for part in params.parts if part not in architecture.missing(words, [part])]}
    if faults:
        return api.Verdict(False, told(faults), {**evidence, "faults": faults[:20]})
    return api.Verdict(True, f"shows {', '.join(params.parts)} and nothing that did not run", evidence)


def said(file: Path) -> str | None:
    """All text of the picture (labels, titles, descriptions), or None when it is no SVG."""
    root = ET.parse(file).getroot()
    if not root.tag.endswith("svg"):
        return None
    texts = (node for node in root.iter() if node.tag.rpartition("}")[2] in ("text", "title", "desc", "foreignObject"))
    return " \n ".join(" ".join(node.itertext()) for node in texts)


def unproved(words: str, work: api.Workspace) -> list[str]:
    return architecture.unproved(words, stored.load(work.records))
