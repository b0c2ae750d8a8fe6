"""`run doctor`: the machine, the environments, and what a plan can and cannot run here, with remedies."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from runner import environments, fitting
from runner.jobs import Work
from runner.preflight import PACKAGES, Lack, Machine, find, lacks, module_lacks
from runner.request import Request
from runner.show import Screen
from tasks.api import Needs


def examine(work: Work, request: Request, machine: Machine, card_gb: float | None = None) -> dict[str, Any]:
    """Everything as plain data; nothing is installed or changed. `card_gb`: say what fits a card of that size."""
    used = sorted({name for job in work.jobs for needs in job.needs for name in needs.environments} - {"runner"})
    made = {name: environments.python(request.root, name, request.mode).exists() for name in used}
    experiments = []
    for job in work.jobs:
        found: list[Any] = []
        for needs in job.needs:
            gaps = lacks(needs, machine) or _vendor_lacks(needs, request)
            if not gaps:
                verdict, backend, found = needs.tier, needs.backend, []
                break
            verdict, backend, found = "blocked", needs.backend, found or gaps
        experiments.append({
            "day": job.day.id, "id": job.id, "runs": verdict, "backend": backend,
            "reason": "; ".join(gap.what for gap in found), "remedy": "; ".join(gap.remedy for gap in found),
        })  # fmt: skip
    tools = {binary: find(binary) or "" for binary in PACKAGES}
    facts = {**machine.facts(), "disk_free_gb": machine.disk_free_gb}
    fits = fitting.examine(request.root, machine, card_gb)
    return {"machine": facts, "tools": tools, "environments": made, "fits": fits, "experiments": experiments}


def _vendor_lacks(needs: Needs, request: Request) -> list[Lack]:
    """What the environment lacks; of one that is not made yet, what its lock will not bring."""
    python = environments.python(request.root, needs.environment, request.mode)
    if python.exists():
        return module_lacks(needs, python)
    brought = {name.lower().replace("-", "_") for name in environments.pins(request.root, needs.environment)}
    remedy = f"run setup, then {python} -m pip install"
    return [
        Lack(f"{name} is not part of the environment '{needs.environment}'", f"{remedy} {name}")
        for name in needs.modules
        if name.replace("-", "_") not in brought
    ]


def show(found: dict[str, Any], screen: Screen) -> None:
    machine = found["machine"]
    screen.line(f"[bold]{machine['host']}[/]  {machine['os']}  {escape(machine['cpu'])}")
    screen.line(
        f"  {machine['cores']} cores · {machine['memory_gb']:g} GB memory · {machine['disk_free_gb']:g} GB disk free"
    )
    screen.line(
        f"  GPUs: {'; '.join(machine['gpus']) or 'none'} · Kubernetes: {machine['cluster'] or 'no cluster reachable'}"
    )
    for name, path in found["tools"].items():
        screen.line(f"  {name}: {path or f'[yellow]missing[/]  sudo apt-get install -y {PACKAGES[name]}'}")
    for name, made in found["environments"].items():
        screen.line(f"  environment {name}: {'ready' if made else '[yellow]made when first needed[/] (run setup)'}")
    for line in fitting.lines(found["fits"]):
        screen.line(escape(line))
    counts = {v: sum(e["runs"] == v for e in found["experiments"]) for v in ("native", "stand-in", "blocked")}
    screen.line(f"{counts['native']} native · {counts['stand-in']} on a stand-in · {counts['blocked']} blocked here")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("day", "experiment", "runs"):
        table.add_column(heading, no_wrap=True)
    table.add_column("backend", overflow="fold")
    colour = {"native": "green", "stand-in": "cyan", "blocked": "yellow"}
    blocked: dict[tuple[str, str], list[str]] = {}
    for e in found["experiments"]:
        shade = colour[e["runs"]]
        table.add_row(e["day"], e["id"], f"[{shade}]{e['runs']}[/]", escape(e["backend"]))
        if e["runs"] == "blocked":
            blocked.setdefault((e["reason"], e["remedy"]), []).append(f"{e['day']}/{e['id']}")
    screen.console.print(table)
    for (reason, remedy), names in blocked.items():
        screen.line(f"[yellow]blocked[/] {escape(reason)}: {', '.join(names)}")
        screen.line(f"        {escape(remedy)}")
