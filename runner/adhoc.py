"""`run task=KIND params.…`: one kind without a plan, as a plan of one experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import spec
from runner.errors import HERE, mistake, nearest
from runner.overrides import plain_values
from runner.plan import Day, Experiment, Plan

TEXT = {"en": "ad hoc", "zh": "临时"}


def plan_of(composed: Mapping[str, Any], root: Path) -> Plan:
    """The task as a plan; what the kind's Point names becomes the matrix."""
    from tasks.catalog import KINDS

    name = str(composed["task"])
    if name not in KINDS:
        raise mistake(f"no kind '{name}'", where=HERE, key="task", remedy=nearest(name, KINDS, noun="kinds"))
    plain_values(composed["params"], ("params",))
    axes = KINDS[name].Point.model_fields
    matrix = {k: v if isinstance(v, list) else [v] for k, v in composed["params"].items() if k in axes}
    params = {k: v for k, v in composed["params"].items() if k not in axes}
    experiment = Experiment(
        id=f"{name}-{spec.digest([params, matrix])[:8]}", day=name, week="adhoc", kind=name, title=TEXT,
        params=params, matrix=matrix, metrics=(), uses=(), after=(), reads=(), claims=(), timeout_s=3600, minutes=1,
    )  # fmt: skip
    folder = root / "artifacts" / "adhoc" / name
    day = Day(name, "adhoc", TEXT, (), (), (), (experiment,), (), None, (), (), folder)
    return Plan(f"task {name}", TEXT, (day,))
