"""The optimisation plan as Markdown, in both languages: a table of the rows, then a step for each limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STEPS = {
    "global memory": (
        "Reuse what was fetched: tiles in shared memory divide the traffic by the tile's side; lanes along a row make "
        "each request whole sectors.",
        "让取到的数据被重复使用：shared memory 分块能把访存量除以分块边长；"
        "让同一 warp 的线程沿行排列，每次请求都是完整的 sector。",
    ),
    "shared memory": (
        "Every multiply-add reads shared memory, and that pipe is four times narrower than the FP32 pipe. Let a thread "
        "compute 8 x 8 elements, so that 16 values read serve 64 multiply-adds, and read float4 (sgemm_fast.cu).",
        "每次乘加都要读 shared memory，而这条通路只有 FP32 通路的四分之一宽。"
        "让每个线程计算 8 x 8 个元素：读 16 个值服务 64 次乘加，并用 float4 读取（见 sgemm_fast.cu）。",
    ),
    "compute": (
        "The FP32 pipe is the limit: remove other instructions from the inner loop, overlap the loads of the next "
        "tile, or use the Tensor Cores where FP16 or TF32 inputs are acceptable.",
        "瓶颈在 FP32 运算单元：精简内层循环的其他指令，让下一块的加载与计算重叠；"
        "若能接受 FP16 或 TF32 输入，则改用 Tensor Core。",
    ),
}
COLUMNS = (
    "arithmetic_intensity_flop_per_byte", "shared_loads_per_ffma", "ffma_share_pct", "model_pct_of_peak",
    "sm_throughput_pct", "memory_throughput_pct",
)  # fmt: skip


def written(rows: Sequence[Mapping[str, Any]], codes: Mapping[str, float], backend: str) -> str:
    """`rows` as stored; each figure stands in its row unchanged, and what was not measured is a dash."""
    names = {code: name for name, code in codes.items()}
    head = ["kernel", *COLUMNS, "bound by"]
    lines = [
        f"# Optimization plan / 优化计划\n\nFigures / 数据来源: {backend}\n",
        cells(head),
        cells(["---"] * len(head)),
    ]
    bounds: dict[str, list[str]] = {}
    for row in rows:
        kernel, metrics = row["point"]["kernel"], row["metrics"]
        bound = names[metrics["bound_by"]]
        bounds.setdefault(bound, []).append(kernel)
        lines.append(cells([kernel, *(figure(metrics.get(name)) for name in COLUMNS), bound]))
    for bound, kernels in bounds.items():
        english, chinese = STEPS[bound]
        lines.append(f"\n## {', '.join(kernels)}: {bound}\n\n{english}\n\n{chinese}")
    return "\n".join(lines) + "\n"


def cells(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
