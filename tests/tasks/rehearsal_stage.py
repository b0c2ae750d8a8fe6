"""The rehearsal stage of TensorRT for tests: kinds and checkers run on it in the environment `torch`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from runner import environments
from tasks.api import read_rows

ROOT = Path(__file__).parents[2]
STAGE = ROOT / "tests/resources/tensorrt_stage"


class Stage:
    """A kind on the rehearsal stage of TensorRT: its rows, the calls it made, the day's folder."""

    def __init__(self, folder: Path, kind: str = "engine_build", *, own_cache: bool = True) -> None:
        self.folder, self.day, self.kind = folder, folder / "day", kind
        self.day.mkdir()
        modules = folder / "modules"
        modules.mkdir()
        shutil.copy(ROOT / "tasks/checks/tensorrt_rehearsal/tensorrt.py", modules)
        shutil.copy(STAGE / "sitecustomize.py", modules)
        self.log = folder / "calls.jsonl"
        self.env = {
            **os.environ, "PYTHONPATH": f"{modules}{os.pathsep}{ROOT}", "TENSORRT_REHEARSAL_LOG": str(self.log),
        }  # fmt: skip
        if own_cache:
            self.env["XDG_CACHE_HOME"] = str(folder / "cache")
        self.python = environments.provision(ROOT, "torch", "managed", print)

    def run(self, params: dict[str, Any], points: list[dict[str, Any]]) -> list[dict[str, Any]]:
        done = self.drive("drive.py", self.kind, json.dumps(params), json.dumps(points))
        assert done.returncode == 0, done.stderr[-2000:]
        return [
            {**row["metrics"], "note": row["note"]} for row in read_rows(self.folder / "out/rows.jsonl", "rehearsal")
        ]

    def check(self, name: str, file: str, params: dict[str, Any]) -> dict[str, Any]:
        """A checker's verdict on a file of the day's folder, given on the stage."""
        done = self.drive("drive_check.py", name, file, json.dumps(params))
        assert done.returncode == 0, done.stderr[-2000:]
        verdict: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return verdict

    def drive(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(self.python), str(STAGE / program), str(self.folder), *words]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=240)

    def calls(self, name: str) -> list[dict[str, Any]]:
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [call for line in lines if (call := json.loads(line))["call"] == name]
