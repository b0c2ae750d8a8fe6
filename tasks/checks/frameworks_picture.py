"""The picture of architectures: it renders, with a panel for each framework and the document's names of the parts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from tasks import api
from tasks.checks.report_numbers import read, told
from tasks.documents import framework_notes, framework_picture


class Params(api.Params):
    """`document` lies beside the picture; its table under “Architecture” names the components."""

    document: str = "llm_frameworks_comparison.md"
    least: int = 3  # components of a panel


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    try:
        panels = framework_picture.panels(read(file))
    except ET.ParseError as error:
        return api.Verdict(False, f"not an SVG picture: {error}")
    named = framework_notes.parse(read(file.with_name(params.document))).architectures
    if not named:
        return api.Verdict(False, f"{params.document} beside it has no table of components to compare with")
    faults = [f"there is no panel “{name}”" for name in named if name not in panels]
    faults += [f"the panel “{name}” is not in {params.document}" for name in panels if name not in named]
    for name in set(panels) & set(named):
        shown, wanted = panels[name], list(named[name])
        faults += [f"{name}: “{part}” is missing" for part in wanted if part not in shown]
        faults += [f"{name}: “{part}” is not in {params.document}" for part in shown if part not in wanted]
        if len(shown) < params.least:
            faults.append(f"{name} has {len(shown)} components, at least {params.least} are wanted")
    faults += unseen(read(file), panels)
    if faults:
        return api.Verdict(False, told(faults), {"faults": faults[:20]})
    return api.Verdict(True, f"{len(panels)} panels with the document's components", {"panels": len(panels)})


def unseen(svg: str, panels: dict[str, list[str]]) -> list[str]:
    """Names that only a title carries: nobody would see them in the rendered picture."""
    root = ET.fromstring(svg)
    written = " ".join("".join(node.itertext()) for node in root.iter(f"{{{framework_picture.SPACE}}}text"))
    words = set(written.split())
    names = [*panels, *(part for parts in panels.values() for part in parts)]
    return [f"“{name}” is not written in the picture" for name in names if not set(name.split()) <= words]
