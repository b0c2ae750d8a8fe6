"""The synthetic plan: days of no-op experiments, and the records that they leave."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import store
from runner.tracking import markers
from runner.tracking.settings import resolve
from tests.benchmarks.timing import ENV, Case, once

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = 5  # a day
WEEK = 7  # days
AWAY = "http://127.0.0.1:9"  # nobody listens: MLflow is no part of what is timed here
BOTH = {"en": "Serve a small model and measure what it costs", "zh": "部署一个小模型并测量其开销"}


@dataclass(frozen=True)
class Project:
    root: Path
    days: int

    @property
    def env(self) -> dict[str, str]:
        """Its own cache, so that nothing is found that another project left."""
        return {**ENV, "XDG_CACHE_HOME": str(self.root / "cache")}

    def run(self, *words: str) -> list[str]:
        """The command line of `run`, as it was installed beside this interpreter."""
        installed = Path(sys.executable).with_name("run")
        return [str(installed), *words] if installed.exists() else [sys.executable, "-m", "runner", *words]

    def week(self, day: int) -> str:
        return f"week{(day - 1) // WEEK + 1:02d}"

    def experiments(self) -> Iterator[tuple[int, str]]:
        """Every (day, id) of the plan."""
        for day in range(1, self.days + 1):
            yield from ((day, f"noop-{day}-{number}") for number in range(1, EXPERIMENTS + 1))

    def folder(self, day: int, experiment: str, variant: str = "") -> Path:
        return store.experiment_dir(self.root, self.week(day), f"day{day:02d}", experiment, variant)


def make(root: Path, days: int) -> Project:
    """The plan, the real conf/ and nothing measured yet."""
    project = Project(root, days)
    shutil.copytree(ROOT / "conf", root / "conf")
    local = root / "conf" / "tracking" / "local.yaml"
    local.write_text(local.read_text(encoding="utf-8").replace('uri: ""', f"uri: {AWAY}"), encoding="utf-8")
    for day in range(1, days + 1):
        file = root / "plans" / project.week(day) / f"day{day:02d}" / "day.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(_day(day), ensure_ascii=False, indent=1), encoding="utf-8")  # JSON is YAML
    return project


def _day(day: int) -> dict[str, Any]:
    """As much text as a real day has."""
    experiment = {"kind": "rehearsal", "title": BOTH, "params": {"seconds": 0.0}, "matrix": {"n": [day]},
                  "metrics": ["elapsed_s", "value"]}  # fmt: skip
    return {
        "id": f"day{day:02d}", "title": BOTH, "goals": [BOTH] * 4, "focus": [BOTH] * 4,
        "blocks": [{"hours": 2, **BOTH}] * 4,
        "experiments": {f"noop-{day}-{n}": experiment for n in range(1, EXPERIMENTS + 1)},
        "deliverables": {}, "checklist": {"leetcode": BOTH, "questions": [BOTH] * 6},
    }  # fmt: skip


def finish(project: Project) -> None:
    """Bring the whole plan to 'done': the first day is run for real, its record is written for every other experiment.

    Raises RuntimeError when that run does not pass.
    """
    once(Case("the first day", project.run("plan=day01"), project.root, project.env, f"{EXPERIMENTS} passed"))
    done = project.folder(1, "noop-1-1")
    record, rows = store.read_json(done / "record.json"), (done / "rows.jsonl").read_bytes()
    for day, experiment in project.experiments():
        stanza = {**record["stanza"], "matrix": {"n": [day]}}
        changed = {"id": experiment, "day": f"day{day:02d}", "week": project.week(day), "stanza": stanza}
        _write(project, project.folder(day, experiment), {**record, **changed}, rows)
    _sent(project)


def multiply(project: Project, total: int) -> None:
    """Sweep variants beside the plan's own records until there are `total` records."""
    have = project.days * EXPERIMENTS
    for day, experiment in project.experiments():
        own = project.folder(day, experiment)
        record, rows = store.read_json(own / "record.json"), (own / "rows.jsonl").read_bytes()
        for _ in range(-(-(total - have) // (project.days * EXPERIMENTS))):
            variant = uuid.uuid4().hex[:8]
            _write(project, project.folder(day, experiment, variant), {**record, "variant": variant}, rows)
    _sent(project)


def _write(project: Project, folder: Path, record: Mapping[str, Any], rows: bytes) -> None:
    """A record as a run leaves it, sent to MLflow."""
    folder.mkdir(parents=True, exist_ok=True)
    identity, target = uuid.uuid4().hex, folder / "record.json"
    text = json.dumps({**record, "uuid": identity}, ensure_ascii=False, indent=1) + "\n"
    target.write_text(text, encoding="utf-8")
    (folder / "rows.jsonl").write_bytes(rows)
    where = resolve(AWAY, project.root / "artifacts")
    marker = {"uuid": identity, "where": where, "run_id": identity, "stamp": markers.stamp(target), "at": record["at"]}
    (folder / markers.MARKER).write_text(json.dumps(marker), encoding="utf-8")


def _sent(project: Project) -> None:
    """Each day as MLflow has it: nothing waits to be sent."""
    artifacts = project.root / "artifacts"
    for day in markers.days(artifacts):
        markers.mark_day(day, resolve(AWAY, artifacts), "", markers.look(day))
