"""What a profile says of operators: time that each spent itself, and the kind of work that it is.

Reads Chrome traces of torch's profiler (CPU operators or CUDA kernels) and the kernel summary of `nsys stats`.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError

FAMILIES: Mapping[str, str] = {  # the first that matches; names of aten, of vLLM's operators and of CUDA kernels
    "cache": r"_and_cache|kv_cache_update|copy_blocks|cache_kernel",  # before attention: reshape_and_cache_flash_kernel
    "attention": r"attention|flash|sdpa|fmha|unified_attn",
    "gemm": r"mm\b|_mm|gemm|matmul|linear|cutlass|cublas|nvjet|onednn|mkldnn",
    "norm": r"norm",
    "rotary": r"rotary|rope",
    "activation": r"silu|gelu|swiglu",
    "sampling": r"argmax|softmax|topk|sort|multinomial|sampl",
    "elementwise": r"^aten::(add|mul|pow|mean|rsqrt|div|sub|neg|cat|copy_|_to_copy)|elementwise|vectorized|triton_",
}


@dataclass(frozen=True)
class Operator:
    """An operator or kernel of a profile: how often it ran, and its own time without what it called."""

    name: str
    calls: int
    self_ms: float

    @property
    def family(self) -> str:
        return next((family for family, words in FAMILIES.items() if re.search(words, self.name.lower())), "other")


def of_trace(file: Path) -> list[Operator]:
    """The operators of a torch trace, most time first: its CUDA kernels when it has some, else its CPU operators."""
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8") as text:
        events = json.load(text).get("traceEvents", [])
    timed = [event for event in events if event.get("ph") == "X" and "dur" in event]
    kernels = [event for event in timed if event.get("cat") == "kernel"]
    found = kernels or [event for event in timed if event.get("cat") == "cpu_op"]
    if not found:
        raise UserError("the trace holds no operators: nothing ran between start and stop", where=str(file))
    return _ranked((event["name"], own) for event, own in self_times(found))


def self_times(events: Sequence[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], float]]:
    """Each event with its own time in microseconds: its duration less that of the events nested in it (same thread)."""
    threads = defaultdict(list)
    for event in events:
        threads[event.get("pid"), event.get("tid")].append(event)
    for line in threads.values():
        stack: list[list[Any]] = []  # event, its end, its own time
        for event in sorted(line, key=lambda event: (event["ts"], -event["dur"])):
            while stack and stack[-1][1] <= event["ts"]:
                done = stack.pop()
                yield done[0], done[2]
            if stack:
                stack[-1][2] -= event["dur"]
            stack.append([event, event["ts"] + event["dur"], event["dur"]])
        yield from ((event, own) for event, _, own in stack)


def of_nsys(text: str) -> list[Operator]:
    """The kernels of `nsys stats --report cuda_gpu_kern_sum --format csv`, most time first."""
    lines = text.splitlines()
    start = next((at for at, line in enumerate(lines) if "Total Time (ns)" in line and "Name" in line), None)
    if start is None:
        raise UserError("nsys stats lists no CUDA kernels", remedy="was the GPU used between start and stop?")
    rows = csv.DictReader(lines[start:])
    kernels = [Operator(row["Name"], int(row["Instances"]), int(row["Total Time (ns)"]) / 1e6) for row in rows]
    return sorted(kernels, key=lambda kernel: -kernel.self_ms)


def _ranked(times: Iterable[tuple[str, float]]) -> list[Operator]:
    calls: dict[str, int] = defaultdict(int)
    total: dict[str, float] = defaultdict(float)
    for name, own in times:
        calls[name] += 1
        total[name] += max(own, 0.0)
    return sorted((Operator(name, calls[name], total[name] / 1000) for name in calls), key=lambda one: -one.self_ms)


def shares_pct(operators: Sequence[Operator]) -> dict[str, float]:
    """Each family's share of the time, in percent; every family is named, `other` too."""
    whole = sum(operator.self_ms for operator in operators)
    if not whole:
        raise UserError("the profile's operators took no time")
    return {
        family: 100 * sum(operator.self_ms for operator in operators if operator.family == family) / whole
        for family in (*FAMILIES, "other")
    }


def write(operators: Sequence[Operator], file: Path, top: int = 20) -> None:
    """The operators with most time of their own as CSV: name, family, calls, self_ms, share_pct."""
    whole = sum(operator.self_ms for operator in operators)
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.writer(out)
        table.writerow(["operator", "family", "calls", "self_ms", "share_pct"])
        for one in operators[:top]:
            share = f"{100 * one.self_ms / whole:.2f}"
            table.writerow([one.name, one.family, one.calls, f"{one.self_ms:.3f}", share])
