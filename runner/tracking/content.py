"""A record as MLflow shows it: names, params, metrics and tags. Pure; no MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from runner.tracking.values import PARAM_CHARACTERS, flat, key_name, milliseconds, plain, short

SYSTEM_SAMPLES = 120  # per experiment; all of them are in the artifact system.jsonl
SPREAD = ("p95", "p99", "stdev", "n")

Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Sample:
    """One value of a metric; `at` in epoch milliseconds. Sent twice, it is still stored once."""

    key: str
    value: float
    at: int
    step: int = 0


@dataclass(frozen=True)
class Content:
    """One run in MLflow; `start` and `end` in epoch milliseconds."""

    name: str
    start: int
    end: int
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Sample] = ()


def of_record(
    record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], system: Sequence[Mapping[str, Any]]
) -> Content:
    """The run of an experiment: what was asked for, how it went, the curve over a numeric axis, the machine's load."""
    at = milliseconds(record["at"])
    verdicts = [claim["verdict"] for claim in record.get("claims", [])]
    totals = {
        "seconds": record["seconds"],
        "points_measured": record["points"]["measured"],
        "points_planned": record["points"]["planned"],
        **{f"claims_{verdict}": verdicts.count(verdict) for verdict in ("confirmed", "refuted", "unknown")},
        **record.get("system", {}),
    }
    return Content(
        name=experiment_name(record),
        start=started(record),
        end=at,
        status="FINISHED" if record["status"] == "passed" else "FAILED",
        tags={**common_tags(record), **origin_tags(record)},
        params=record_params(record),
        metrics=[
            *(Sample(key_name(key), float(value), at) for key, value in totals.items()),
            *curve(rows),
            *system_samples(system),
        ],
    )


def of_points(record: Mapping[str, Any], rows: Lines) -> list[Content]:
    """One run per measured point, in the order of measurement; each starts where the one before it ended."""
    contents, start = [], started(record)
    for row in sorted(rows, key=lambda row: float(row["at"])):
        end = milliseconds(row["at"])
        state = "blocked" if row.get("blocked") else "passed"
        contents.append(
            Content(
                name=" ".join(f"{axis}={plain(value)}" for axis, value in row["point"].items())
                or experiment_name(record),
                start=min(start, end),
                end=end,
                status="FINISHED",
                tags=short({**common_tags(record), "status": state, "note": row.get("note", "")}),
                params={key_name(axis): plain(value) for axis, value in row["point"].items()},
                metrics=[Sample(key, value, end) for key, value in point_metrics(row).items()],
            )
        )
        start = end
    return contents


def point_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The row's metrics and, for repeated ones, the spread: `latency_ms` brings `latency_ms_p95` and so on."""
    metrics = {key_name(name): float(value) for name, value in row["metrics"].items()}
    for name, spread in row.get("spread", {}).items():
        for part in SPREAD:
            metrics.setdefault(key_name(f"{name}_{part}"), float(spread[part]))
    return metrics


def curve(rows: Lines) -> Iterator[Sample]:
    """Metrics over the axis when there is a single one of whole numbers: MLflow then draws them by themselves."""
    axes = {tuple(row["point"]) for row in rows}
    if len(rows) < 2 or len(axes) != 1 or len(axis := next(iter(axes))) != 1:
        return
    if any(type(row["point"][axis[0]]) is not int for row in rows):
        return
    for row in rows:
        for name, value in row["metrics"].items():
            yield Sample(
                key_name(f"by_{axis[0]}/{name}"), float(value), milliseconds(row["at"]), int(row["point"][axis[0]])
            )


def system_samples(lines: Lines) -> Iterator[Sample]:
    """CPU, memory and GPU over time, at most SYSTEM_SAMPLES of each."""
    stride = max(1, -(-len(lines) // SYSTEM_SAMPLES))
    for step, line in enumerate(lines[::stride]):
        for name, value in line.items():
            if name != "at" and isinstance(value, int | float):
                yield Sample(key_name(f"system/{name}"), float(value), milliseconds(line["at"]), step * stride)


def record_params(record: Mapping[str, Any]) -> dict[str, str]:
    """The stanza's params and axes under their own names, the model's settings under `model.`."""
    stanza = record["stanza"]
    model = record.get("settings", {}).get("model", {})
    found = {**dict(flat(stanza.get("params", {}))), **dict(flat(model, "model.")), **stanza.get("matrix", {})}
    return {key_name(name): plain(value)[:PARAM_CHARACTERS] for name, value in found.items()}


def common_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """What one filters and groups by; the same names on experiments and points."""
    gpus = record["machine"].get("gpus") or []
    return short(
        {
            **{name: record.get(name) for name in ("week", "day", "kind", "status", "tier", "backend", "stand_in_for")},
            "experiment": record["id"],
            "variant": record.get("variant", ""),
            "origin": record.get("origin", ""),
            "machine.host": record["machine"].get("host"),
            "machine.gpus": ", ".join(gpu if isinstance(gpu, str) else plain(gpu) for gpu in gpus),
            "mlflow.source.name": f"run plan={record['day']}",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": record.get("git", {}).get("revision"),
        }
    )


def origin_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Everything needed to know where the figures come from."""
    git, title = record.get("git", {}), record["stanza"].get("title", {})
    return short(
        {
            "reason": record.get("reason"),
            "remedy": record.get("remedy"),
            "overrides": " ".join(record.get("overrides", [])),
            "spec": record.get("spec"),
            "git.revision": git.get("revision"),
            "git.dirty": plain(git["dirty"]) if "dirty" in git else "",
            **{
                f"machine.{name}": plain(value)
                for name, value in record["machine"].items()
                if name not in ("gpus", "host")
            },
            **{f"version.{name}": plain(value) for name, value in record.get("versions", {}).items()},
            "mlflow.note.content": "\n\n".join((*title.values(), *map(claim_line, record.get("claims", [])))),
        }
    )


def claim_line(claim: Mapping[str, Any]) -> str:
    """A claim and its verdict as one line of Markdown."""
    text = claim["text"]
    said = text.get("en", "") if isinstance(text, Mapping) else text
    return f"- **{claim['verdict']}**: {said} (measured {claim.get('measured')}, {claim['op']} {claim['value']})"


def experiment_name(record: Mapping[str, Any]) -> str:
    """The id, with the variant of an overridden or swept run."""
    return "+".join(filter(None, (record["id"], record.get("variant", ""))))


def started(record: Mapping[str, Any]) -> int:
    """When the experiment began, in epoch milliseconds."""
    return milliseconds(datetime.fromisoformat(record["started"]).timestamp())
