"""An ONNX Runtime script: it names the digits that torch names, and its options change what its sessions really do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.models import digits
from tasks.onnx import images, witness

TRIALS = (("disable_all", 1), ("basic", 8), ("extended", 32), ("all", 7))
SHOWN = 100
TIMEOUT_S = 60


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    import numpy

    if not file.is_file() or not file.read_bytes().strip():
        return Verdict(False, f"{file.name} is missing or empty")
    model, _ = digits.load("mlp", work.seed)
    shown = digits.split(work.seed)[1].images[:SHOWN]
    numpy.save(work.scratch / "shown.npy", shown)
    images.export(model, work.scratch / "mlp.onnx", "mlp")
    named = digits.torch_logits(model)(shown).argmax(-1)
    for level, batch in TRIALS:
        if problem := wrong(file, level, batch, named, work.scratch):
            return Verdict(False, f"with --opt-level {level} --batch {batch} {problem}")
    return Verdict(True, f"names the {SHOWN} digits as torch does at {len(TRIALS)} levels and batches")


def wrong(file: Path, level: str, batch: int, named: Any, scratch: Path) -> str:
    """What is wrong with one run of the script; empty when nothing is."""
    arguments = [
        "--onnx", str(scratch / "mlp.onnx"), "--images", str(scratch / "shown.npy"), "--opt-level", level,
        "--batch", str(batch), "--provider", "cpu", "--threads", "1", "--seconds", "0.05",
    ]  # fmt: skip
    account = witness.run(file, arguments, scratch / "witness.json", TIMEOUT_S)
    if account.returncode:
        last = (account.stderr.strip().splitlines() or ["no message"])[-1]
        return f"it ended with {account.returncode}: {last}"
    if not account.sessions:
        return "it opened no session of ONNX Runtime"
    session = max(account.sessions, key=lambda one: len(one.runs))
    if session.level != level:
        return f"its session was made with {session.level}"
    if not session.runs or max(size for size, _ in session.runs) != batch:
        return f"its batches have the sizes {sorted({size for size, _ in session.runs})}"
    try:
        said = witness.predictions(account.stdout, len(named), file.name)
    except api.UserError as error:
        return error.what
    return f"it names {int((said != named).sum())} digits otherwise than torch" if (said != named).any() else ""
