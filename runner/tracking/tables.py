"""Rows, claims, experiments and deliverables as the tables that MLflow's UI shows. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from runner.tracking.content import SPREAD, experiment_name

Table = Sequence[Mapping[str, Any]]


def rows_table(rows: Table) -> Table:
    """One line per point: axes, metrics, spread."""
    return [
        {
            **row["point"],
            **row["metrics"],
            **{f"{name}_{part}": found[part] for name, found in row.get("spread", {}).items() for part in SPREAD},
            **({"note": row["note"]} if row.get("note") else {}),
        }
        for row in rows
    ]


def claims_table(record: Mapping[str, Any]) -> Table:
    """One line per claim with what was measured and the verdict."""
    return [
        {
            "claim": claim["text"].get("en", "") if isinstance(claim["text"], Mapping) else claim["text"],
            "metric": claim["metric"],
            "at": compact(claim.get("at")),
            "over": compact(claim.get("over")),
            "expected": f"{claim['op']} {claim['value']}",
            "measured": claim.get("measured"),
            "verdict": claim["verdict"],
        }
        for claim in record.get("claims", [])
    ]


def experiments_table(records: Table) -> Table:
    """One line per experiment of a day."""
    return [
        {
            "experiment": experiment_name(record),
            **{name: record.get(name, "") for name in ("status", "tier", "backend", "stand_in_for")},
            "points": f"{record['points']['measured']}/{record['points']['planned']}",
            "seconds": round(float(record["seconds"]), 1),
            "reason": record.get("reason", ""),
        }
        for record in records
    ]


def deliverables_table(verdicts: Table) -> Table:
    """One line per check of each deliverable."""
    return [
        {
            "deliverable": verdict["path"],
            "status": verdict["status"],
            "check": check.get("check", ""),
            "message": check.get("message", "") or verdict.get("reason", ""),
        }
        for verdict in verdicts
        for check in (verdict.get("checks") or [{}])
    ]


def as_json(table: Table) -> str:
    """The format of `mlflow.log_table`, which would append on a second sending."""
    columns = list(dict.fromkeys(name for line in table for name in line))
    return json.dumps({"columns": columns, "data": [[line.get(name) for name in columns] for line in table]})


def as_csv(table: Table) -> str:
    """The same table for a spreadsheet."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for line in table for name in line)), restval="")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def compact(point: Mapping[str, Any] | None) -> str:
    """A point in a few words."""
    return " ".join(f"{axis}={value}" for axis, value in (point or {}).items())
