"""Workspace limits and tactic sources, through the day's own script: it builds, we time the engines that it built."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import api
from tasks.engines import subject, tensorrt
from tasks.engines.points import Params
from tasks.models import reviews

TOLERANCE = 5e-2
LARGEST_MB = 1024


def workspace(params: Params, ctx: api.Context) -> None:
    """Each limit against the largest: how many layers got another tactic."""
    given = subject.prepare(params, ctx)
    limits = sorted({point.workspace_mb for point in ctx.points} | {LARGEST_MB})
    built = build(params, ctx, given.onnx, ["--workspace-mb", *map(str, limits), "--tactic-sources"])
    rows = {row["workspace_mb"]: row for row in built}
    for point in ctx.points:
        row = rows[point.workspace_mb]
        changes = {"tactic_changes": tactic_changes(row["tactics"], rows[LARGEST_MB]["tactics"])}
        record(point, row, changes, given, params, ctx)


def tactics(params: Params, ctx: api.Context) -> None:
    given = subject.prepare(params, ctx)
    wanted = [point.tactic_sources for point in ctx.points]
    built = build(params, ctx, given.onnx, ["--workspace-mb", "--tactic-sources", *wanted])
    rows = {row["tactic_sources"]: row for row in built}
    for point in ctx.points:
        record(point, rows[point.tactic_sources], {}, given, params, ctx)


def build(params: Params, ctx: api.Context, onnx: Path, choice: list[str]) -> list[dict[str, Any]]:
    """Run the script and return the JSON lines it wrote. UserError with its last words when it fails."""
    out = ctx.out / "tactics.jsonl"
    argv = [
        sys.executable, str(ctx.day / params.script), "--onnx", str(onnx), "--engines", str(ctx.scratch),
        "--out", str(out), *choice,
    ]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    ctx.say(done.stdout.strip())
    if done.returncode:
        raise api.UserError(f"it ended with {done.returncode}: {done.stderr.strip()[-600:]}", where=params.script)
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    if refused := [row for row in rows if "error" in row]:
        raise api.UserError(f"it could not build {refused[0]}", where=params.script)
    return rows


def tactic_changes(ours: list[dict[str, str]], reference: list[dict[str, str]]) -> int:
    """Layers of `ours` whose tactic is not the reference's; a layer that only one of them has (other fusion) counts."""
    before = {layer["layer"]: layer["tactic"] for layer in reference}
    after = {layer["layer"]: layer["tactic"] for layer in ours}
    return sum(before.get(name) != tactic for name, tactic in after.items()) + len(before.keys() - after.keys())


def record(
    point: api.Params,
    row: dict[str, Any],
    more: Mapping[str, float],
    given: subject.Subject,
    params: Params,
    ctx: api.Context,
) -> None:
    """Check and time the script's engine here: the script's own latencies are not taken on trust."""
    blob = Path(row["engine"]).read_bytes()
    engine = tensorrt.TensorRtEngine(tensorrt.deserialize(blob), len(blob), "fp32")
    texts = reviews.texts(params.batch, params.seq_len, seed=ctx.seed, test=True)
    subject.agree(engine.logits, given.fp32, texts, TOLERANCE)
    metrics, latency = subject.clock(engine, params.batch, params, ctx.seed)
    metrics |= {"build_time_s": row["build_time_s"], **more}
    ctx.record(point, metrics, {"latency_p50_ms": latency}, row.get("note", ""))
