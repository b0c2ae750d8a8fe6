"""Send one record, or one day, to MLflow: every step may be cut off and done again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from runner.tracking import content, markers, tables, values
from runner.tracking.runs import Runs
from tasks.api import read_rows

RECORD, POINT, PART_OF, DAY = "infra90.record", "infra90.point", "infra90.part_of", "infra90.day"
LARGEST_BYTES = 32 * 2**20


def send_record(path: Path, where: str, runs: Runs) -> None:
    """The experiment's run and its points' runs, below the day's run; then the marker."""
    seen, record = markers.stamp(path), markers.read(path)
    rows = read_rows(path.with_name("rows.jsonl"), record["spec"])
    found = runs.find(PART_OF, record["uuid"])
    whole = content.of_record(record, rows, read_lines(path.with_name("system.jsonl")))
    marks = {RECORD: record["uuid"], PART_OF: record["uuid"]}
    parent = day_run(path.parents[2], runs)
    run = runs.open([run for run in found if RECORD in run.data.tags], whole, marks, parent.info.run_id)
    send_points(record, rows, found, run, runs)
    runs.fill(run, whole)
    runs.show(run, {"rows": tables.rows_table(rows), "claims": tables.claims_table(record)})
    attach_folder(path.parent, experiment_files(path.parent), run, runs)
    runs.close(run, whole)
    markers.mark_record(path, record["uuid"], where, run.info.run_id, seen)


def send_points(
    record: Mapping[str, Any], rows: list[dict[str, Any]], found: list[Run], parent: Run, runs: Runs
) -> None:
    """A run for each point; those that an earlier attempt closed are whole."""
    for row_content, row in zip(
        content.of_points(record, rows), sorted(rows, key=lambda row: float(row["at"])), strict=True
    ):
        point = json.dumps(row["point"], sort_keys=True)
        mine = [run for run in found if run.data.tags.get(POINT) == point]
        if len(mine) == 1 and mine[0].info.status == "FINISHED":
            continue
        run = runs.open(mine, row_content, {POINT: point, PART_OF: record["uuid"]}, parent.info.run_id)
        runs.fill(run, row_content)
        runs.close(run, row_content)


def day_run(day: Path, runs: Runs) -> Run:
    """The day's run, made on first use and closed at once: what a day holds says its tags, not its being open."""
    name = f"{day.parent.name}/{day.name}"
    found = runs.find(DAY, name)
    if len(found) == 1 and found[0].info.status != "RUNNING":
        return found[0]
    whole = of_day(day)
    run = runs.open(found, whole, {DAY: name})
    runs.close(run, whole)
    return run


def send_day(day: Path, where: str, runs: Runs) -> None:
    """The day's deliverables and reports, its verdicts and its experiments' statuses; then the marker."""
    seen, whole, run = markers.look(day), of_day(day), day_run(day, runs)
    run = runs.open([run], whole, {DAY: f"{day.parent.name}/{day.name}"})
    runs.fill(run, whole)
    shown = {"experiments": tables.experiments_table(records_of(day))}
    runs.show(run, {**shown, "deliverables": tables.deliverables_table(verdicts_of(day))})
    attach_folder(day, markers.deliverables(day), run, runs, "deliverables")
    runs.close(run, whole)
    markers.mark_day(day, where, run.info.run_id, seen)


def of_day(day: Path) -> content.Content:
    """A day's run: how many experiments and deliverables stand where."""
    records, verdicts = records_of(day), verdicts_of(day)
    statuses = [record["status"] for record in records]
    counts = {f"experiments_{status}": statuses.count(status) for status in ("passed", "failed", "blocked")}
    tiers = [record["tier"] for record in records if record["status"] == "passed"]
    counts |= {"experiments_native": tiers.count("native"), "experiments_stand_in": tiers.count("stand-in")}
    counts |= {
        "deliverables_ok": [verdict["status"] for verdict in verdicts].count("ok"),
        "deliverables": len(verdicts),
    }
    newest = max(int(path.stat().st_mtime * 1000) for _, path in markers.day_inputs(day))
    status = "failed" if "failed" in statuses else "passed" if "passed" in statuses else "blocked"
    return content.Content(
        name=day.name,
        start=min(content.started(record) for record in records),
        end=max(values.milliseconds(record["at"]) for record in records),
        status="FAILED" if status == "failed" else "FINISHED",
        tags={"week": day.parent.name, "day": day.name, "status": status, "mlflow.source.name": f"run plan={day.name}"},
        metrics=[content.Sample(name, float(count), newest) for name, count in counts.items()],
    )


def records_of(day: Path) -> list[dict[str, Any]]:
    """The day's finished or blocked records, oldest first."""
    found = [markers.read(path) for path in markers.record_files(day)]
    ended = [record for record in found if record.get("status") in (*markers.FINAL, "blocked")]
    return sorted(ended, key=lambda record: float(record["at"]))


def verdicts_of(day: Path) -> list[dict[str, Any]]:
    """The verdicts on the day's deliverables."""
    found = [markers.read(path) for path in sorted(day.glob("verdicts/**/*.json"))]
    return [verdict for verdict in found if "path" in verdict]


def experiment_files(folder: Path) -> list[Path]:
    """What an experiment left: record, rows, log, plots, raw results."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [path for path in files if path.name != markers.MARKER and not path.name.startswith(".")]


def attach_folder(root: Path, files: list[Path], run: Run, runs: Runs, under: str = "") -> None:
    """Files as artifacts, folders kept. Those too large to copy are named with size and hash instead."""
    large = []
    for file in files:
        inside = file.parent.relative_to(root).as_posix()
        if file.stat().st_size > LARGEST_BYTES:
            large.append(
                {
                    "file": file.relative_to(root).as_posix(),
                    "bytes": file.stat().st_size,
                    "sha256": markers.digest(file),
                }
            )
        else:
            runs.attach(run, file, "/".join(part for part in (under, inside) if part not in ("", ".")))
    if large:
        runs.client.log_dict(run.info.run_id, {"not_copied": large}, "not_copied.json")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a torn last line of a killed writer is passed over."""
    return list(whole_lines(path)) if path.exists() else []


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Each line that is an object with a time."""
    for line in path.read_bytes().splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "at" in found:
            yield found
