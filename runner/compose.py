"""The Hydra entry: the plan as a true config group, overrides checked before Hydra sees them, sweeps."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runner import asked, execute, jobs, overrides, settings, store, workflow
from runner.cli import project
from runner.errors import HERE, Mistakes, Problem, disk_full, mistake
from runner.plan import load_sound, names
from runner.request import Request, plain_stanzas
from runner.show import Screen
from tasks.api import UserError

WORST = (workflow.PASSED, workflow.BLOCKED, workflow.FAILED, workflow.MISTAKE, workflow.STOPPED)


def run(root: Path, argv: list[str]) -> int:
    """Compose with Hydra and run, once or as a sweep. Returns the exit code. Raises Mistakes before anything runs."""
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    _watch_signals()
    argv, chosen = overrides.checked(root, argv)
    plans = ConfigStore.instance()
    asks = any(word.startswith("-") for word in argv)  # Hydra's help and completion list every plan
    enters = asks or any(word.lstrip("+~").startswith("plan.") for word in argv)
    for name in names(root) if asks else chosen:
        raw = _loaded(root, name) if name in chosen else {}
        # Composing copies a plan many times over: it gets the days only when something may look into them
        plans.store(group="plan", name=name, node=raw if enters else {"id": name})
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own mistakes come here instead of being printed
    try:
        return _with_hydra(root, argv)
    except (HydraException, OmegaConfBaseException) as error:
        raise _of_hydra(error) from None


def _loaded(root: Path, name: str) -> dict[str, Any]:
    """A plan for Hydra. Raises Mistakes with all that is wrong when a file of it cannot be read."""
    raw, unread = load_sound(root, name)
    if unread:
        jobs.read(root, name)
    return raw


def _of_hydra(error: Exception) -> Mistakes:
    said = str(error).strip()
    options = re.search(r"Available options in '[^']+':\n((?:\s+\S+\n)+)", said)
    lines = [text.splitlines()[0] for text in (said, str(error.__cause__ or "")) if text]
    return mistake(" ".join(lines), where=HERE, remedy=", ".join(options[1].split()) if options else "")


def _with_hydra(root: Path, argv: list[str]) -> int:
    import hydra

    sweep = root / "artifacts" / ".sweeps" / f"{time.strftime('%Y%m%d-%H%M%S')}-{threading.get_native_id()}"
    many = "-m" in argv or "--multirun" in argv
    if many:
        _check_sweep(root, [word for word in argv if not word.startswith("-")])
    folders = [f"hydra.sweep.dir={sweep}"] if many else []
    sys.argv = [sys.argv[0], *argv, *folders]
    try:
        hydra.main(version_base=None, config_path=str(root / "conf"), config_name="config")(_task)()
        return _worst(sweep) if many else workflow.PASSED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        shutil.rmtree(sweep, ignore_errors=True)


def _check_sweep(root: Path, words: list[str]) -> None:
    """Validate every job of a sweep before the first one runs. Raises Mistakes."""
    from hydra import compose, initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    ours = [word for word in words if not word.lstrip("+~").startswith("hydra")]
    parsed = OverridesParser.create().parse_overrides(ours)
    found: dict[Problem, None] = {}
    with initialize_config_dir(str(root / "conf"), version_base=None):
        for given in BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]:
            try:
                asked.work(root, OmegaConf.to_container(compose("config", given), resolve=False), given)
            except Mistakes as mistakes:
                found |= dict.fromkeys(mistakes.problems)
    if found:
        raise Mistakes(found)


def _task(config: Any) -> None:
    """What Hydra calls with each composed configuration, in this process or in a launcher's."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    composed = OmegaConf.to_container(config, resolve=False)
    root = project(Path(hydra.runtime.cwd))
    code = _guarded(root, composed, list(hydra.overrides.task), sweep is not None)
    if sweep is None:
        sys.exit(code)
    store.write_json(sweep / f"{hydra.job.num}.exit", code)
    if code == workflow.STOPPED:
        sys.exit(code)


def _guarded(root: Path, composed: Any, given: list[str], sweep: bool) -> int:
    try:
        return _run(root, composed, given, sweep)
    except Mistakes as found:
        print(found, file=sys.stderr)
        return workflow.MISTAKE
    except store.Busy as busy:
        print(f"{busy}\n    wait for it, or run the same command with wait=true", file=sys.stderr)
        return workflow.MISTAKE
    except UserError as error:
        print(error, file=sys.stderr)
        return workflow.FAILED
    except OSError as error:
        if not (full := disk_full(error)):
            raise
        print(full, file=sys.stderr)
        return workflow.FAILED
    except execute.Interrupted:
        print("\ninterrupted: what was measured is kept; the same command goes on from there", file=sys.stderr)
        return workflow.STOPPED


def _run(root: Path, composed: dict[str, Any], given: list[str], sweep: bool) -> int:
    plan, base, work = asked.work(root, composed, given)
    groups = {group: composed[group] for group in settings.GROUPS}
    request = Request(
        root=root, settings=groups, defaults=settings.defaults(root), plain=plain_stanzas(base),
        overrides=tuple(word.lstrip("+") for word in given), sweep=sweep, force=composed["force"],
        wait=composed["wait"], seed=composed["seed"], lang=composed["lang"],
    )  # fmt: skip
    _watch_signals()
    return workflow.run_plan(plan, work, request, Screen())


def _watch_signals() -> None:
    """Ctrl-C and a supervisor's SIGTERM end the run the same way, from here on."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # stopping is under way; a second Ctrl-C must not break it off
    raise execute.Interrupted


def _worst(sweep: Path) -> int:
    codes = [store.read_json(file) for file in sweep.glob("*.exit")]
    return max(codes, key=WORST.index, default=workflow.FAILED)
