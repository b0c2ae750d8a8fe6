"""The bottleneck chart: an SVG whose every figure and verdict stands in the day's records, and that shows them all."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from tasks import api
from tasks.llm import bottleneck_picture


class Params(api.Params):
    """The experiments whose records the chart draws."""

    roofline: str = "roofline-verdict"
    capture: str = "kernel-capture"


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """Compares the chart's labels with those that the records ask for."""
    try:
        written = bottleneck_picture.labels(file)
    except (OSError, ET.ParseError) as error:
        return api.Verdict(False, f"not an SVG picture: {error}")
    stored = {record["id"]: record["rows"] for record in work.stored() if not record["variant"]}
    roofline, capture = stored.get(params.roofline, []), stored.get(params.capture, [])
    if not roofline or not capture:
        return api.Verdict(False, f"no records of {params.roofline} and {params.capture} to compare the chart with")
    wanted = bottleneck_picture.expected(roofline, capture)
    faults = [f"no record says “{label}”" for label in sorted(written - wanted)]
    faults += [f"“{label}” is missing" for label in sorted(wanted - written)]
    if faults:
        return api.Verdict(False, f"{len(faults)} figures disagree with the records: {faults[0]}", {"faults": faults})
    return api.Verdict(True, f"all {len(written)} figures stand in the records", {"labels": len(written)})
