"""ONNX Runtime on the CPU: the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.api import UserError
from tasks.engines.contract import Build
from tasks.onnx import graph


@dataclass
class OrtEngine:
    logits: graph.Logits
    size_bytes: int
    ran: str = "fp32"


def build(plan: Build) -> OrtEngine:
    if plan.precision != "fp32":
        raise UserError(f"the ONNX Runtime baseline is fp32, not {plan.precision}")
    return OrtEngine(graph.runtime(plan.onnx, plan.threads), plan.onnx.stat().st_size)
