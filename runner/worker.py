"""The child's main: runs one job, or the checks of one deliverable, in the environment they need.

Standard library, pydantic and `tasks` only: it is started with the interpreter of any environment.
Reads the job from the file in argv[1], writes `outcome` beside it; exit code 0 means that an outcome was written.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from tasks.api import Context, UserError, Workspace

STOP_S = 4


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_bytes())
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle
    threading.Thread(target=_follow, args=(int(sys.argv[2]),), daemon=True).start()
    scratch = Path(tempfile.mkdtemp(prefix="infra90-"))
    try:
        outcome = _guarded(job, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    target = Path(job["outcome"])
    staged = target.with_name(f".{target.name}.staged")
    staged.write_text(json.dumps(outcome, ensure_ascii=False), encoding="utf-8")
    staged.replace(target)


def _stop(*_: object) -> NoReturn:
    """Unwind, so that every service is stopped by its own context manager."""
    raise SystemExit(143)


def _follow(pipe: int) -> None:
    """Die with the runner: the pipe's other end is closed when it is gone, even by SIGKILL."""
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(STOP_S)  # the main thread may be inside C code and never see the signal
    os.kill(os.getpid(), signal.SIGKILL)


def _guarded(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    try:
        return _checks(job, scratch) if "checks" in job else _kind(job, scratch)
    except UserError as error:
        return {"ok": False, "reason": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "reason": f"{type(error).__name__}: {error}"}


def _workspace(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    records = [Path(path) for path in job["records"]]
    return {
        "day": Path(job["day"]), "scratch": scratch, "settings": job["settings"],
        "seed": job["seed"], "records": records,
    }  # fmt: skip


def _kind(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    module = importlib.import_module(job["module"])
    context = Context(
        **_workspace(job, scratch),
        out=Path(job["out"]),
        points=[module.Point.model_validate_json(json.dumps(point)) for point in job["points"]],
        backend=job["backend"],
        tier=job["tier"],
        spec=job["spec"],
    )
    module.run(module.Params.model_validate_json(json.dumps(job["params"])), context)
    return {"ok": True}


def _checks(job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    found = []
    for check in job["checks"]:
        module = importlib.import_module(check["module"])
        work = Workspace(**_workspace(job, Path(tempfile.mkdtemp(dir=scratch))))
        try:
            verdict = module.check(
                Path(job["file"]), module.Params.model_validate_json(json.dumps(check["params"])), work
            )
            found.append({"ok": verdict.ok, "message": verdict.message, "evidence": dict(verdict.evidence)})
        except UserError as error:
            found.append({"ok": False, "message": str(error), "evidence": {}})
    return {"ok": True, "verdicts": found}


if __name__ == "__main__":
    main()
