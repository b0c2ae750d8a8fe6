"""Plans + records → where the learner stands. Pure and light: this is why `run status` answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import spec, store
from runner.plan import Day, Deliverable, Experiment, Plan

STATES = ("passed", "failed", "blocked", "stale", "pending", "running")


def of_plan(plan: Plan, root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The object that `run status --json` prints."""
    days = [of_day(day, root, settings) for day in plan.days]
    experiments = [experiment for day in days for experiment in day["experiments"]]
    deliverables = [deliverable for day in days for deliverable in day["deliverables"]]
    counts = {state: sum(e["status"] == state for e in experiments) for state in STATES}
    passed = [e for e in experiments if e["status"] == "passed"]
    totals = {
        "experiments": len(experiments), **counts,
        "native": sum(e["tier"] == "native" for e in passed),
        "stand_in": sum(e["tier"] == "stand-in" for e in passed),
        "deliverables": len(deliverables), "deliverables_ok": sum(d["status"] == "ok" for d in deliverables),
    }  # fmt: skip
    return {"plan": plan.id, "title": dict(plan.title), "totals": totals, "days": days}


def of_day(day: Day, root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    ticked = store.read_json(store.ticks_file(root, day.week, day.id)) or []
    return {
        "id": day.id,
        "title": dict(day.title),
        "experiments": [of_experiment(e, root, settings) for e in day.experiments],
        "deliverables": [of_deliverable(d, day, root) for d in day.deliverables],
        "checklist": [{"id": item, "done": item in ticked} for item in day.checklist],
    }


def of_experiment(experiment: Experiment, root: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    folder = store.experiment_dir(root, experiment.week, experiment.day, experiment.id)
    record = store.read_json(folder / "record.json")
    status, reason, remedy = state(record, experiment, root, settings)
    if status != "passed" and (marker := store.read_json(folder / "running.json")):
        running = store.alive(marker["owner"])
        who = f"pid {marker['owner']['pid']} on {marker['owner']['host']}"
        status = "running" if running else "failed"
        reason = f"by {who}" if running else f"interrupted: {who} is gone; the next run goes on from its points"
    known = record or {}
    return {
        "id": experiment.id, "kind": experiment.kind, "status": status, "tier": known.get("tier", ""),
        "backend": known.get("backend", ""), "reason": reason, "remedy": remedy,
        "origin": known.get("origin", ""), "seconds": known.get("seconds", 0.0),
    }  # fmt: skip


def state(
    record: Mapping[str, Any] | None, experiment: Experiment, root: Path, settings: Mapping[str, Any]
) -> tuple[str, str, str]:
    """(status, reason, remedy) of a record as the plan, the settings and the files are now."""
    if not record:
        return "pending", "", ""
    if record["status"] == "passed":
        changed = spec.changes(record, experiment.stanza(), settings, root)
        return ("stale", "changed since: " + ", ".join(changed), "") if changed else ("passed", "", "")
    return record["status"], record["reason"], record["remedy"]


def of_deliverable(deliverable: Deliverable, day: Day, root: Path) -> dict[str, Any]:
    verdict = store.read_json(store.verdict_file(root, day.week, day.id, deliverable.path))
    answer: dict[str, Any] = {"path": deliverable.path, "status": "pending", "reason": "", "remedy": "", "checks": []}
    if not verdict:
        return answer
    answer |= {key: verdict[key] for key in ("status", "reason", "remedy")}
    answer["checks"] = [{key: check[key] for key in ("check", "ok", "message")} for check in verdict["checks"]]
    changed = ["the plan's checks"] * (verdict.get("asked") != deliverable.asked)
    changed += [path for path, was in verdict["bound"].items() if spec.file_hash(root / path) != was]
    if verdict["status"] != "blocked" and changed:
        answer |= {"status": "stale", "reason": "changed since: " + ", ".join(changed)}
    return answer


def following(status: Mapping[str, Any]) -> tuple[str, str] | None:
    """(day, experiment) that comes next: the first that is neither passed nor blocked."""
    for day in status["days"]:
        for experiment in day["experiments"]:
            if experiment["status"] not in ("passed", "blocked"):
                return day["id"], experiment["id"]
    return None


def command(status: Mapping[str, Any]) -> str:
    """The command that goes on: with what is not measured, then with what is not proved; '' when nothing is left."""
    if coming := following(status):
        return f"run plan={coming[0]} experiment={coming[1]}"
    for day in status["days"]:
        states = {deliverable["status"] for deliverable in day["deliverables"]}
        if "failed" in states:
            return f"run check {day['id']}"
        if states & {"stale", "pending"}:
            return f"run plan={day['id']}"
    return ""


def complete(status: Mapping[str, Any]) -> bool:
    """Whether a run would find nothing to do: everything passed and every deliverable is proved."""
    totals = status["totals"]
    return bool(totals["passed"] == totals["experiments"] and totals["deliverables_ok"] == totals["deliverables"])
