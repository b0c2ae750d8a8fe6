"""What a week's own file says beyond its title: which weeks its report goes on from, what is worth a résumé line."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pydantic import Field

from runner import parsed, store
from runner.errors import Mistakes, Problem
from runner.findings import findings, in_file
from tasks.api import Params
from tasks.documents.document import Both, Highlight, Published


class About(Params):
    """`plans/weekNN/week.yaml`, or that of another plan. `covers` names earlier weeks that its report shows as well."""

    id: str = ""
    days: list[str] = Field(default_factory=list)  # of a plan that selects days or has units of its own, in order
    title: Both | None = None
    covers: list[str] = Field(default_factory=list)
    highlights: list[Highlight] = Field(default_factory=list)
    published: list[Published] = Field(default_factory=list)


def about(week: str, root: Path) -> About:
    """The week's file, empty when there is none. Raises Mistakes with all that is wrong in it."""
    if found := mistakes(week, root):
        raise Mistakes(found)
    file = _file(week, root)
    return About.model_validate(parsed.cached(file, root)) if file.exists() else About()


def mistakes(week: str, root: Path) -> list[Problem]:
    """What is wrong in the week's file."""
    file = _file(week, root)
    return in_file(file, root, ("plan",), partial(findings, About)) if file.exists() else []


def _file(week: str, root: Path) -> Path:
    return root / "plans" / week / "week.yaml"


def reported(week: str, root: Path) -> list[str]:
    """The weeks that this week's report shows: those that it goes on from, as far as they were begun, and its own."""
    return [*(name for name in about(week, root).covers if any(store.records(root, (name,)))), week]
