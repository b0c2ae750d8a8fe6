"""The comparison of LLM frameworks: tables equal stored results, stand-ins are named, the questions are answered."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.checks.report_numbers import read, told
from tasks.documents import audit, framework_notes, stored
from tasks.documents.stored import Record


class Params(api.Params):
    """`questions` are words of which each must stand in a question of its own, answered in `words` words or more."""

    comparison: str = "framework-qps-latency"
    frameworks: list[str] = Field(min_length=1)
    questions: list[str] = Field(default_factory=list)
    words: int = Field(default=25, ge=1)


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="records", memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    text = read(file)
    if not text.strip():
        return api.Verdict(False, "there is no text to check")
    records = [record for record in stored.load(work.records) if not record["variant"]]
    compared = next((record for record in records if record["id"] == params.comparison), None)
    if compared is None:
        return api.Verdict(False, "there is no record to compare it with: run the day first")
    records = framework_notes.measured(records, compared)
    found = audit.audit(text, records)
    faults = [*found.faults, *heads(text, compared, params), *answers(text, params)]
    if stored.name(compared) not in found.shown:
        faults.append(f"{stored.name(compared)} has no table of its points")
    faults += [f"it does not say {what}" for what, said in told_of(text, compared).items() if not said]
    evidence = {"numbers": found.numbers, "rows": found.rows, "faults": faults[:20]}
    if faults:
        return api.Verdict(False, told(faults), evidence)
    return api.Verdict(True, f"{found.numbers} numbers in {found.rows} rows are stored results", evidence)


def told_of(text: str, compared: Record) -> dict[str, bool]:
    """What the reader must be able to find: the prompts and the versions that were run."""
    versions = [row["note"].partition(": ")[2].rpartition(", ")[0] for row in compared["rows"] if row.get("note")]
    return {
        "which prompts were asked": "prompt" in text.lower() or "提示" in text,
        "the versions that were run": bool(versions) and all(version in text for version in versions),
    }


def heads(text: str, compared: Record, params: Params) -> list[str]:
    """One column for each framework; who stands in is named there, who was not run is marked."""
    columns = [title for grid in audit.grids(text) for title in grid.header]
    notes = {row["point"].get("framework"): row.get("note", "") for row in compared["rows"] if not row.get("blocked")}
    faults = []
    for name in params.frameworks:
        own = [title for title in columns if name.replace("-", "") in title.lower().replace("-", "")]
        ran = notes.get(name, "").partition(": ")[2].partition(",")[0]
        if not own:
            faults.append(f"no table has a column for {name}")
        elif name not in notes and not any("not run" in title or "未运行" in title for title in own):
            faults.append(f"{name} was not run, and its column's head does not say so")
        elif ran and not any(ran in title for title in own):
            faults.append(f"the head of {name}'s column does not name what was run: {ran}")
        elif name in notes and compared["tier"] == "stand-in" and not ran.lower().replace("-", "").startswith(
            name.replace("-", "")
        ) and not any("stand-in" in title or "替" in title for title in own):  # fmt: skip
            faults.append(f"the head of {name}'s column does not say that {ran} stands in")
    return faults


def answers(text: str, params: Params) -> list[str]:
    """Questions that are not asked or hardly answered. A Chinese character counts as half a word."""
    answered = framework_notes.answered(text)
    faults = []
    for wanted in params.questions:
        found = [body for question, body in answered.items() if wanted.lower() in question.lower()]
        if not found:
            faults.append(f"no question about “{wanted}”")
        elif (length := max(map(weight, found))) < params.words:
            faults.append(f"the question about “{wanted}” is answered in {length:.0f} words, {params.words} are wanted")
    return faults


def weight(body: str) -> float:
    han = sum("\u4e00" <= letter <= "\u9fff" for letter in body)
    return len(body.split()) + han / 2
