"""A knowledge map as its writer gives it: every week has concepts, nothing is an island, every link goes forward."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.checks.report_numbers import told
from tasks.documents import concepts


class Params(api.Params):
    """The map covers the weeks 1 to `weeks`."""

    weeks: int = Field(default=11, ge=1)


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="the map", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    try:
        given = concepts.read(file)
    except api.UserError as error:
        return api.Verdict(False, str(error))
    if faults := concepts.faults(given, params.weeks):
        return api.Verdict(False, told(faults), {"faults": faults[:20]})
    return api.Verdict(True, f"{len(given.concepts)} concepts of {params.weeks} weeks, {len(given.links())} links")
