"""Proves a README: its fenced shell commands run as they stand, every link and path that it names is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from tasks import api

FENCE = re.compile(r"^```(?:bash|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#)([^)\s]+)\)")
SHOWN = 600


class Params(api.Params):
    timeout_s: float = Field(default=120, gt=0)  # for each block of commands


def needs(params: Params) -> api.Needs:
    return api.Needs("Triton", environment="triton", binaries=("bash", "nginx", "prometheus"), memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """Everything runs in a copy of the README's folder, with this environment's `python3` first on PATH."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if not text.strip():
        return api.Verdict(False, f"{file.name} is missing or empty")
    if lost := [link for link in LINK.findall(text) if not (file.parent / link).exists()]:
        return api.Verdict(False, f"{file.name} links to {', '.join(lost)}, which is not there", {"lost": lost})
    blocks = FENCE.findall(text)
    if not blocks:
        return api.Verdict(False, f"{file.name} has no fenced shell commands to follow")
    place = copied(file.parent, work.scratch / "checkout")
    for fault in failures(blocks, place, params.timeout_s):
        return api.Verdict(False, fault)
    links = len(LINK.findall(text))
    return api.Verdict(True, f"{len(blocks)} blocks of commands ran as written, {links} links lead somewhere")


def copied(folder: Path, place: Path) -> Path:
    """The folder as a clean checkout: without what experiments and reports left in it."""
    left = shutil.ignore_patterns("experiments", "verdicts", "variants", "plots", "__pycache__", ".*")
    return Path(shutil.copytree(folder, place, ignore=left))


def failures(blocks: list[str], place: Path, timeout_s: float) -> Iterator[str]:
    """The first block that fails, with its last words."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    for number, block in enumerate(blocks, 1):
        try:
            done = subprocess.run(
                ["bash", "-e", "-c", block], cwd=place, env={**os.environ, "PATH": path}, timeout=timeout_s,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield f"block {number} of commands took more than {timeout_s:.0f} s"
            return
        if done.returncode:
            yield f"block {number} of commands ended with {done.returncode}: {done.stdout.strip()[-SHOWN:]}"
