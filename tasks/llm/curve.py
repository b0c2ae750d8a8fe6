"""The latency–throughput curve of a sweep, drawn from its rows, with the knee marked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks import api

AXES = ("request_rate", "concurrency")
TITLE = "vLLM: latency against throughput"


def draw(ctx: api.Context, file: Path) -> None:
    """A PNG when at least three measured points (an earlier, interrupted run's too) differ in their load alone."""
    rows = [row for row in api.read_rows(ctx.out / "rows.jsonl", ctx.spec) if row["metrics"]]
    for axis in AXES:
        others = {json.dumps({**row["point"], axis: None}, sort_keys=True) for row in rows}
        if len(rows) >= 3 and len(others) == 1 and all(axis in row["point"] for row in rows):
            picture(sorted(rows, key=lambda row: float(row["point"][axis])), axis, file)


def knee(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row with the highest power."""
    return max(rows, key=lambda row: float(row["metrics"]["power"]))


def told(rows: list[dict[str, Any]], axis: str) -> str:
    """Where the knee is; at the highest load there is none yet: what would bend the curve was not offered."""
    best = knee(rows)
    return f"{'no knee up to' if best is rows[-1] else 'knee:'} {axis.replace('_', ' ')} {best['point'][axis]:g}"


def picture(rows: list[dict[str, Any]], axis: str, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    figure.suptitle(f"{TITLE} ({axis.replace('_', ' ')} {rows[0]['point'][axis]:g} to {rows[-1]['point'][axis]:g})")
    best = knee(rows)
    parts = {"Whole request, server's histogram": "server_e2e", "First token, client": "ttft"}
    for number, (title, name) in enumerate(parts.items(), start=1):
        graph = figure.add_subplot(1, 2, number)
        across = [row["metrics"]["output_tokens_per_s"] for row in rows]
        for share, colour in (("p50", "#3b82f6"), ("p95", "#f59e0b"), ("p99", "#ec4899")):
            graph.plot(across, [row["metrics"][f"{name}_{share}_ms"] for row in rows], "-o", color=colour, label=share)
        for row, x in zip(rows, across, strict=True):
            label, y = f"{row['point'][axis]:g}", row["metrics"][f"{name}_p99_ms"]
            graph.annotate(label, (x, y), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
        x = best["metrics"]["output_tokens_per_s"]
        graph.axvline(x, color="#6b7280", linestyle="--", linewidth=1)
        graph.annotate(
            told(rows, axis), (x, 0.97), xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points",
            ha="right", va="top", rotation=90, fontsize=9,
        )  # fmt: skip
        graph.set(title=title, xlabel="output tokens per second", ylabel="ms")
        graph.set_ylim(bottom=0, top=1.1 * max(row["metrics"][f"{name}_p99_ms"] for row in rows))
        graph.grid(alpha=0.3)
        graph.legend(fontsize="small")
    figure.savefig(file, dpi=110)
