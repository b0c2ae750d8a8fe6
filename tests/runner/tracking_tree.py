"""Artifact folders as the runner leaves them: records, rows, system samples, deliverables, verdicts."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

BEGAN = 1_795_000_000.0  # epoch s
STARTED = "2026-11-18T11:06:40+00:00"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def make_record(
    artifacts: Path,
    name: str = "instances-1-2-4",
    day: str = "week03/day18",
    points: tuple[int, ...] = (1, 2, 4),
    samples: int = 20,
    **changes: Any,
) -> Path:
    """A finished record with its rows; `changes` replace fields of record.json."""
    week, day_id = day.split("/")
    folder = artifacts / day / "experiments" / name
    folder.mkdir(parents=True, exist_ok=True)
    spec = uuid.uuid4().hex
    rows = [row(spec, instances, place) for place, instances in enumerate(points)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    load = (
        {"at": BEGAN + second, "cpu_pct": 50.0 + second % 40, "rss_mb": 300.0 + second} for second in range(samples)
    )
    (folder / "system.jsonl").write_text("".join(json.dumps(each) + "\n" for each in load))
    (folder / "log.txt").write_text("measured\n")
    (folder / "throughput.png").write_bytes(PIXEL)
    record = base_record(name, week, day_id, spec, len(points)) | changes
    (folder / "record.json").write_text(json.dumps(record))
    return folder / "record.json"


def row(spec: str, instances: int, place: int) -> dict[str, Any]:
    """A measured point: throughput grows with the instances, latency has a spread."""
    return {
        "spec": spec,
        "point": {"instances": instances},
        "metrics": {"throughput_rps": 100.0 * instances, "latency_p99_ms": 40.0 / instances},
        "spread": {"latency_p99_ms": {"n": 5, "p50": 10.0, "p95": 12.0, "p99": 13.0, "stdev": 0.5}},
        "note": "",
        "at": BEGAN + 5 * (place + 1),
    }


def base_record(name: str, week: str, day: str, spec: str, points: int) -> dict[str, Any]:
    """A passed stand-in record with one confirmed claim."""
    claim = {"text": {"en": "Four instances give at least 1.5 times one", "zh": "四个实例不低于一个的 1.5 倍"},
             "metric": "throughput_rps", "at": {"instances": 4}, "over": {"instances": 1},
             "op": ">=", "value": 1.5}  # fmt: skip
    return {
        "schema": 1, "id": name, "uuid": str(uuid.uuid4()), "day": day, "week": week, "kind": "triton_serve",
        "variant": "", "overrides": [], "status": "passed", "tier": "stand-in", "backend": "onnxruntime",
        "stand_in_for": "tensorrt", "reason": "", "remedy": "", "origin": "own", "spec": spec,
        "stanza": {
            "kind": "triton_serve", "title": {"en": "Throughput by instances", "zh": "实例数与吞吐"},
            "params": {"batch": 8, "load": {"clients": 4}}, "matrix": {"instances": [1, 2, 4]},
            "metrics": ["throughput_rps", "latency_p99_ms"], "claims": [claim],
        },
        "inputs": {"multi_model_config.pbtxt": "ab" * 32}, "settings": {"model": {"name": "tiny"}},
        "machine": {"host": "box", "cpu": "EPYC", "cores": 2, "memory_gb": 23, "gpus": [], "os": "Debian 12",
                    "fingerprint": "f00d"},
        "versions": {"tritonclient": "2.50.0", "numpy": "1.26.4"}, "git": {"revision": "deadbeef", "dirty": False},
        "claims": [{**claim, "measured": 4.0, "verdict": "confirmed"}], "artifacts": [],
        "points": {"planned": points, "measured": points}, "started": STARTED, "seconds": 20.0, "at": BEGAN + 20,
        "system": {"cpu_pct_mean": 61.0, "rss_peak_mb": 320.0},
    }  # fmt: skip


def make_deliverables(artifacts: Path, day: str = "week03/day18") -> None:
    """A deliverable with its verdict, and the day's report."""
    folder = artifacts / day
    (folder / "verdicts").mkdir(parents=True, exist_ok=True)
    (folder / "multi_model_config.pbtxt").write_text("instance_group [ { count: 2 } ]\n")
    (folder / f"report_{folder.name}.md").write_text("# Report\n\nThroughput grew.\n")
    verdict = {
        "path": "multi_model_config.pbtxt", "status": "ok", "sha256": "00", "reason": "", "remedy": "",
        "checks": [{"check": "triton_config", "ok": True, "message": "loaded, two models answer", "evidence": {}}],
    }  # fmt: skip
    (folder / "verdicts" / "multi_model_config.pbtxt.json").write_text(json.dumps(verdict))


def make_week(artifacts: Path) -> list[Path]:
    """A week like the third: seven days of five records, four or five points each, 25 s of system samples."""
    made = []
    for day in range(15, 22):
        for experiment in range(5):
            made.append(
                make_record(
                    artifacts, f"experiment-{experiment}", f"week03/day{day}", (1, 2, 4, 8, 16)[: 4 + day % 2], 25
                )
            )
        make_deliverables(artifacts, f"week03/day{day}")
    return made
