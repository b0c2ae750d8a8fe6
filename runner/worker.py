"""The nursery's main and its children's: a child runs one job, or the checks of one deliverable.

Standard library, pydantic and `tasks` only: it is started with the interpreter of any environment.
A child reads its job from a file and writes `outcome` beside it; exit code 0 means that an outcome was written.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from tasks.api import Context, UserError, Workspace

STOP_S = 4
MARK, MARK_BYTES = "INFRA90_JOB", 32


def main() -> None:
    """Fork a child for each order on the socket in argv[1], until the runner closes its end.

    An order comes with three descriptors: the log, the leash, and the socket that takes the child's pid (with its
    pidfd) and, in the end, its exit code.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle
    memory = _mark_memory()
    orders = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()  # what is imported by now is the same for every child: none need copy it to look for garbage
    while True:
        said, descriptors, _, _ = socket.recv_fds(orders, 65536, 3, socket.MSG_CMSG_CLOEXEC)
        if not said:
            return None
        log, leash, answer = descriptors
        if (pid := os.fork()) == 0:
            orders.close()
            os.close(answer)
            return _child(json.loads(said), log, leash, memory)
        with socket.socket(fileno=answer) as reply:
            _serve(pid, reply)
        os.close(log)
        os.close(leash)


def _serve(pid: int, reply: socket.socket) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        socket.send_fds(reply, [str(pid).encode()], [pidfd])
    except OSError:
        pass  # the runner is gone: the leash ends the child
    os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        reply.send(str(code).encode())
    except OSError:
        pass  # as above


def _mark_memory() -> Any:
    """Where this process's environment, as /proc shows it, holds the job's mark."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    return getenv(MARK.encode())


def _child(order: dict[str, Any], log: int, leash: int, memory: int) -> None:
    os.setsid()
    os.chdir(order["folder"])
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    uuid = order["uuid"].encode()
    ctypes.memmove(memory, uuid.ljust(MARK_BYTES, b"\0"), MARK_BYTES)  # the runner finds what a killed child left by it
    os.environ[MARK] = order["uuid"]
    os.environ["TMPDIR"] = tempfile.tempdir = order["scratch"]
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_follow, args=(leash,), daemon=True).start()
    _work(json.loads(Path(order["job"]).read_bytes()))


def _work(job: dict[str, Any]) -> None:
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


def _follow(leash: int) -> None:
    """Die with the runner: the leash's other end is closed when it is gone, even by SIGKILL."""
    os.read(leash, 1)
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
        "pythons": {name: Path(path) for name, path in job.get("pythons", {}).items()},
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
