"""What has been sent and what waits, from small files on disk. Light: `run` asks this each time it ends.

A record's `tracked.json` lies beside its record.json, a day's beside its experiments. It is written only after
everything was sent, so a missing or outdated marker means: send (again). Sending twice is harmless.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.tracking.database import path_of
from runner.tracking.settings import resolve

MARKER = "tracked.json"
FINAL = ("passed", "failed")
OWN_FOLDERS = ("experiments", "verdicts", "__pycache__")


def pending(artifacts: Path, uri: str) -> list[Path]:
    """What MLflow at `uri` lacks: record.json files, and day folders whose deliverables or verdicts changed."""
    where = resolve(uri, artifacts)
    store = path_of(where)
    fresh = store is not None and not store.exists()
    waiting: list[Path] = []
    for day in days(artifacts):
        records = record_files(day)
        waiting += [path for path in records if fresh or not record_sent(path, where)]
        if records and (fresh or not day_sent(day, where)):
            waiting.append(day)
    return waiting


def days(artifacts: Path) -> list[Path]:
    """The day folders, and those of ad hoc tasks, in order."""
    return sorted(path.parent for path in artifacts.glob("*/*/experiments"))


def record_files(day: Path) -> list[Path]:
    """A day's records, variants too, in order."""
    folder = day / "experiments"
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    paths = (folder.joinpath(name, "record.json") for name in names)
    return [path for path in paths if path.exists()]


def record_sent(path: Path, where: str) -> bool:
    """Whether this record needs no sending: sent as it is, or not finished, or blocked."""
    marker = read(path.with_name(MARKER))
    if marker.get("where") == where and marker.get("stamp") == stamp(path):
        return True
    record = read(path)
    if record.get("status") not in FINAL:
        return True
    return bool(marker.get("where") == where and marker.get("uuid") == record["uuid"])


def day_sent(day: Path, where: str) -> bool:
    """Whether MLflow has this day's deliverables, verdicts and experiment statuses as they are now."""
    marker = read(day / "experiments" / MARKER)
    seen, now = marker.get("files", {}), dict(day_inputs(day))
    if marker.get("where") != where or seen.keys() != now.keys():
        return False
    return all(seen[name]["stamp"] == stamp(path) or seen[name]["sha256"] == digest(path) for name, path in now.items())


def day_inputs(day: Path) -> Iterator[tuple[str, Path]]:
    """Everything that a day's run in MLflow shows: deliverables, verdicts and the records of its experiments."""
    for path in (*deliverables(day), *sorted(day.glob("verdicts/**/*.json"))):
        yield path.relative_to(day).as_posix(), path
    yield from ((f"experiments/{path.parent.name}/{path.name}", path) for path in record_files(day))


def deliverables(day: Path) -> list[Path]:
    """The learner's files and the reports of a day."""
    files = []
    for folder, names, leaves in os.walk(day):
        names[:] = sorted(name for name in names if name not in OWN_FOLDERS and not name.startswith("."))
        files += [Path(folder) / leaf for leaf in sorted(leaves) if not leaf.startswith(".")]
    return [path for path in files if path.is_file() and not path.is_symlink()]


def mark_record(path: Path, uuid: str, where: str, run_id: str, seen: list[int]) -> None:
    """State that the record with this uuid was sent whole; `seen` is the stamp taken before it was read."""
    write(path.with_name(MARKER), {"uuid": uuid, "where": where, "run_id": run_id, "stamp": seen, "at": time.time()})


def mark_day(day: Path, where: str, run_id: str, seen: dict[str, Any]) -> None:
    """State that the day's files were sent as `seen` before sending."""
    write(day / "experiments" / MARKER, {"where": where, "run_id": run_id, "files": seen, "at": time.time()})


def look(day: Path) -> dict[str, Any]:
    """Stamp and hash of each of a day's inputs."""
    return {name: {"stamp": stamp(path), "sha256": digest(path)} for name, path in day_inputs(day)}


def forget(folder: Path, where: str) -> None:
    """Drop the markers below a folder for a store that has lost what they stand for: it is sent again."""
    for path in folder.glob(f"**/experiments/**/{MARKER}"):
        if read(path).get("where") == where:
            path.unlink()


def stamp(path: Path) -> list[int]:
    """Time of change, size and inode: a record is replaced as a whole, so these change with it."""
    state = os.stat(path)
    return [state.st_mtime_ns, state.st_size, state.st_ino]


def digest(path: Path) -> str:
    """The file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when the file is missing or torn."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write beside, force to disk, then rename: a reader never sees half a file."""
    staged = path.with_name(f".{path.name}.part")  # one name: the next writer, under the lock, takes it over
    with staged.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
