"""Everything under artifacts/: the only module that knows its paths. Light.

A file is either wholly there or not there: it is staged beside its place, forced to disk and renamed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Busy(Exception):
    """Another process holds the lock; `owner` says who."""

    def __init__(self, path: Path, owner: Mapping[str, Any]) -> None:
        self.owner = owner
        who = f"pid {owner.get('pid', '?')} on {owner.get('host', '?')} since {owner.get('since', '?')}"
        super().__init__(f"{path.parent.name} is being run by {who}")


def week_dir(root: Path, week: str) -> Path:
    return root / "artifacts" / week


def day_dir(root: Path, week: str, day: str) -> Path:
    """The learner's workspace of a day."""
    return root.joinpath("artifacts", week, day)


def experiment_dir(root: Path, week: str, day: str, experiment: str, variant: str = "") -> Path:
    """`experiments/<id>`, or `experiments/<id>+<variant>` for what was overridden on the command line."""
    name = f"{experiment}+{variant}" if variant else experiment
    return root.joinpath("artifacts", week, day, "experiments", name)


def verdict_file(root: Path, week: str, day: str, deliverable: str) -> Path:
    return day_dir(root, week, day) / "verdicts" / verdict_name(deliverable)


def verdict_name(deliverable: str) -> str:
    """`models/` → `models__.json`."""
    return deliverable.replace("/", "__") + ".json"


def ticks_file(root: Path, week: str, day: str) -> Path:
    """The learner's own checklist: the only state that is written by hand (`run done`)."""
    return day_dir(root, week, day) / "done.json"


def laid_file(root: Path, week: str, day: str) -> Path:
    """Which version of each reference file was laid, to tell the learner's changes from ours."""
    return day_dir(root, week, day) / ".laid.json"


def made_file(root: Path, week: str, day: str) -> Path:
    """What each report of a day was made from, so that a run rewrites those that would now be written differently."""
    return day_dir(root, week, day) / ".made.json"


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that it is wholly there or not at all, whatever dies. Raises OSError that names the file.

    `durable` waits for the disk, so that it outlives a power cut too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    write_bytes(path, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode(), durable=durable)


def newer(path: Path, than: Path) -> bool:
    """Whether `path` is there and not older than the other."""
    try:
        return path.stat().st_mtime_ns >= than.stat().st_mtime_ns
    except OSError:
        return False


def read_json(path: Path) -> Any:
    """The value in a JSON file, or None when there is no such file or it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def owner() -> dict[str, Any]:
    """Who this process is, so that a later run can tell whether it is still alive."""
    return {"host": os.uname().nodename, "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> int:
    """When it started, in clock ticks since boot (field 22 of /proc/pid/stat); 0 when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] in "ZX" else int(fields[19])


def alive(who: Mapping[str, Any]) -> bool:
    """Whether that process still runs. One on another host is taken to be alive: we cannot see it."""
    if who.get("host") != os.uname().nodename:
        return True
    return bool(process_start(int(who.get("pid", 0))) == who.get("started", -1))


@contextmanager
def lock(path: Path, *, shared: bool = False, wait: bool = False, on_wait: Any = None) -> Iterator[None]:
    """Hold a file lock. The kernel frees it with its process, so a killed owner never blocks anybody.

    Sweep jobs share the week's lock; a plain run holds it alone. Raises Busy when it is held and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = Busy(path, read_json(path) or {})
            if not wait:
                raise busy from None
            if on_wait:
                on_wait(busy)
            fcntl.flock(file, mode)
        file.truncate(0)
        file.write(json.dumps({**owner(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}))
        file.flush()
        yield


def records(root: Path, weeks: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every record file of those weeks (all of them by default), variants too, in order."""
    for week in weeks or ("*",):
        yield from sorted((root / "artifacts").glob(f"{week}/*/experiments/*/record.json"))
