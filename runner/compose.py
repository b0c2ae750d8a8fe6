"""The Hydra entry: the plan as a true config group, overrides checked before Hydra sees them, sweeps."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import execute, overrides, settings, store, workflow
from runner.build import build
from runner.errors import Mistakes, mistake, nearest
from runner.jobs import expand
from runner.plan import Plan, load, names
from runner.request import Request, plain_stanzas
from runner.show import Screen
from tasks.api import UserError

WORST = (workflow.PASSED, workflow.BLOCKED, workflow.FAILED, workflow.MISTAKE, workflow.STOPPED)


def run(root: Path, argv: list[str]) -> int:
    """Compose with Hydra and run, once or as a sweep. Returns the exit code. Raises Mistakes before anything runs."""
    import hydra
    from hydra.core.config_store import ConfigStore

    argv, chosen = overrides.checked(root, argv)
    plans = ConfigStore.instance()
    for name in names(root):
        plans.store(group="plan", name=name, node=load(root, name) if name in chosen else {})
    sweep = root / "artifacts" / ".sweeps" / f"{time.strftime('%Y%m%d-%H%M%S')}-{threading.get_native_id()}"
    many = "-m" in argv or "--multirun" in argv
    folders = [f"hydra.sweep.dir={sweep}"] if many else []
    sys.argv = [sys.argv[0], *argv, *folders]
    try:
        hydra.main(version_base=None, config_path=str(root / "conf"), config_name="config")(_task)()
        return _worst(sweep) if many else workflow.PASSED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        shutil.rmtree(sweep, ignore_errors=True)


def _task(config: Any) -> None:
    """What Hydra calls with each composed configuration, in this process or in a launcher's."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    composed = OmegaConf.to_container(config, resolve=False)
    code = _guarded(composed, list(hydra.overrides.task), sweep is not None)
    if sweep is None:
        sys.exit(code)
    store.write_json(sweep / f"{hydra.job.num}.exit", code)
    if code == workflow.STOPPED:
        sys.exit(code)


def _guarded(composed: Any, given: list[str], sweep: bool) -> int:
    try:
        return _run(composed, given, sweep)
    except Mistakes as found:
        print(found, file=sys.stderr)
        return workflow.MISTAKE
    except store.Busy as busy:
        print(f"{busy}\n    wait for it, or run the same command with wait=true", file=sys.stderr)
        return workflow.MISTAKE
    except UserError as error:
        print(error, file=sys.stderr)
        return workflow.FAILED
    except execute.Interrupted:
        print("\ninterrupted: what was measured is kept; the same command goes on from there", file=sys.stderr)
        return workflow.STOPPED


def _run(composed: dict[str, Any], given: list[str], sweep: bool) -> int:
    from runner.cli import project

    root = project()
    if not composed.get("plan") and not composed.get("task"):
        raise mistake(
            "nothing to run", where="command line", remedy="name a plan (run plan=week03) or a task (run task=…)"
        )
    plan, base = overrides.adhoc(composed, root) if composed.get("task") else _plans(composed, given, root)
    plan = _only(plan, composed)
    work = expand(plan, root, overrides.keys(given))
    groups = {group: composed[group] for group in settings.GROUPS}
    request = Request(
        root=root, settings=groups, defaults=settings.defaults(root), plain=plain_stanzas(base),
        overrides=tuple(given), force=composed["force"], wait=composed["wait"], sweep=sweep,
        seed=composed["seed"], lang=composed["lang"],
    )  # fmt: skip
    for number in (signal.SIGINT, signal.SIGTERM):
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, _interrupt)
    return workflow.run_plan(plan, work, request, Screen())


def _plans(composed: Mapping[str, Any], given: list[str], root: Path) -> tuple[Plan, Plan]:
    """The plan as overridden, and as its files have it."""
    raw = composed["plan"]
    overrides.plain_values(raw)
    return build(raw, root, overrides.keys(given)), build(load(root, raw["id"]), root)


def _only(plan: Plan, composed: Mapping[str, Any]) -> Plan:
    """The plan cut down to `day=` and `experiment=`."""
    from dataclasses import replace

    days = plan.days
    if composed["day"] is not None:
        wanted = f"day{str(composed['day']).removeprefix('day'):0>2}"
        days = tuple(day for day in days if day.id == wanted)
        if not days:
            remedy = nearest(wanted, [day.id for day in plan.days], noun="its days")
            raise mistake(f"{plan.id} has no day '{composed['day']}'", where="command line", key="day", remedy=remedy)
    if (name := composed["experiment"]) is not None:
        known = [e.id for day in days for e in day.experiments]
        if name not in known:
            remedy = nearest(name, known, noun="its experiments")
            raise mistake(
                f"{plan.id} has no experiment '{name}'", where="command line", key="experiment", remedy=remedy
            )
        kept = ((day, tuple(e for e in day.experiments if e.id == name)) for day in days)
        days = tuple(replace(day, experiments=experiments) for day, experiments in kept if experiments)
    return replace(plan, days=days)


def _interrupt(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # stopping is under way; a second Ctrl-C must not break it off
    raise execute.Interrupted


def _worst(sweep: Path) -> int:
    codes = [store.read_json(file) for file in sweep.glob("*.exit")]
    return max(codes, key=WORST.index, default=workflow.FAILED)
