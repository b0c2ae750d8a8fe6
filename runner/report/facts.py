"""One experiment as a report shows it: its record, if there is one, with tables, figures and what to say about it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import store
from runner.report import files
from runner.report.shapes import Day
from tasks.documents import curves, stored, tables
from tasks.documents.figures import number
from tasks.documents.stored import Record

PICTURES = (".svg", ".png")
UNJUDGED = {"status": "pending", "checks": [], "reason": "", "remedy": ""}


@dataclass(frozen=True)
class Shown:
    """`record` is None while the experiment has not run; `variants` are its runs with overrides."""

    day: str
    id: str
    title: str
    record: Record | None
    variants: Sequence[Record]
    lang: str

    @property
    def badge(self) -> str:
        return stored.label(self.record, self.lang)

    @property
    def state(self) -> str:
        """passed records count under their tier, the others under their status."""
        if self.record is None:
            return "pending"
        return str(self.record["tier"] if self.record["status"] == "passed" else self.record["status"])

    @property
    def results(self) -> str:
        return tables.results(self.record, self.lang).markdown() if self.record else ""

    @property
    def claims(self) -> str:
        table = tables.claims(self.record, self.lang) if self.record else None
        return table.markdown() if table else ""

    @property
    def spread(self) -> str:
        table = tables.spreads(self.record, self.lang) if self.record else None
        return table.markdown() if table else ""

    @property
    def notes(self) -> list[str]:
        """What the measurements themselves remark, each once."""
        rows = self.record["rows"] if self.record else []
        return list(dict.fromkeys(row["note"] for row in rows if row.get("note")))

    @property
    def asked(self) -> str:
        """The matrix as the plan states it: `instances = 1, 2, 4`."""
        matrix = (self.record["stanza"].get("matrix") or {}) if self.record else {}
        return "; ".join(f"{axis} = {', '.join(stored.text(value) for value in matrix[axis])}" for axis in matrix)


def of_day(day: Day, records: Sequence[Record], lang: str) -> list[Shown]:
    """The day's experiments in the plan's order, with their records."""
    found = []
    for experiment in day.experiments:
        own = [record for record in records if record["day"] == day.id and record["id"] == experiment.id]
        plain = next((record for record in own if not record["variant"]), None)
        title = stored.said(plain["stanza"]["title"] if plain else experiment.title, lang)  # as it was measured
        found.append(Shown(day.id, experiment.id, title, plain, [record for record in own if record["variant"]], lang))
    return found


def counts(shown: Sequence[Shown]) -> Counter[str]:
    """How many experiments are native, stand-in, blocked, failed, running, pending."""
    return Counter(each.state for each in shown)


def claims(shown: Sequence[Shown], verdict: str) -> list[dict[str, Any]]:
    """The claims with that verdict, each with the experiment that judged it."""
    return [
        {
            "text": stored.said(claim["text"], each.lang),
            "expected": tables.expected(claim),
            "measured": number(claim["measured"]) if claim.get("measured") is not None else "",
            "record": stored.name(each.record),
        }
        for each in shown
        if each.record
        for claim in each.record["claims"]
        if claim["verdict"] == verdict
    ]


def next_steps(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """What would unblock what is blocked, also single points: each lack once, with the experiments that wait.

    What failed is to be run again.
    """
    waiting: dict[tuple[str, str], list[str]] = {}
    for each in shown:
        failed = each.state == "failed" and f"`run plan={each.day} experiment={each.id}`"
        if each.record and (remedy := failed or each.record["remedy"]):
            lack = (each.record["reason"], remedy)
            waiting.setdefault(lack, []).append(stored.name(each.record))
    return [{"reason": reason, "remedy": remedy, "experiments": names} for (reason, remedy), names in waiting.items()]


def machines(records: Sequence[Record]) -> list[Record]:
    """The machines that measured, each once."""
    return list({record["machine"].get("fingerprint", ""): record["machine"] for record in records}.values())


def versions(records: Sequence[Record]) -> list[str]:
    """`package version` of everything that took part; a package with two versions is named twice."""
    return sorted({f"{name} {version}" for record in records for name, version in record["versions"].items()})


def revisions(records: Sequence[Record]) -> list[str]:
    """The git revisions that the records were measured at; `+` marks a tree with changes. None outside git."""
    measured = (record["git"] for record in records if record["git"]["revision"])
    return sorted({git["revision"][:10] + ("+" if git["dirty"] else "") for git in measured})


def verdicts(day: Day, folder: Path) -> list[dict[str, Any]]:
    """The day's deliverables with their verdicts. A report says nothing of its own, which is judged afterwards."""
    found = []
    for deliverable in day.deliverables:
        file = folder / "verdicts" / store.verdict_name(deliverable.path)
        own = deliverable.made_by in ("report", "weekly_report")
        verdict = json.loads(file.read_text(encoding="utf-8")) if file.exists() and not own else {}
        found.append({**UNJUDGED, **verdict, "path": deliverable.path, "own": own})
    return found


class Plots:
    """Draws each record once per process: a day's report and the week's show the same figure."""

    def __init__(self) -> None:
        self.drawn: dict[tuple[str, float], str] = {}

    def of(self, record: Record, folder: Path) -> list[str]:
        """Links from `folder` to the record's figure (written under `plots/`) and to the pictures its kind left."""
        key = (stored.cited(record), record["at"])
        if key not in self.drawn:
            self.drawn[key] = curves.draw(record)
        links = []
        if self.drawn[key]:
            variant = f"+{record['variant']}" if record["variant"] else ""
            name = f"plots/{record['day']}-{record['id']}{variant}.svg"
            files.write(folder / name, self.drawn[key])
            links.append(name)
        if record["kind"] == "document":  # its pictures are those of the records it reads
            return links
        kept = [record["folder"] / each["path"] for each in record["artifacts"]]
        pictures = sorted(path for path in kept if path.suffix in PICTURES and path.is_file())
        return links + [os.path.relpath(path, folder).replace(os.sep, "/") for path in pictures]


PLOTS = Plots()
