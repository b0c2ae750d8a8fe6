"""What it takes to give a container the machine's GPUs."""

from __future__ import annotations

import shutil
import subprocess

TOOLKIT = ("nvidia-container-runtime-hook", "nvidia-ctk")
OPTIONS = {"docker": ("--gpus", "all"), "podman": ("--device", "nvidia.com/gpu=all")}


def present() -> list[str]:
    """The machine's GPUs as the driver's own tool lists them; empty without a driver."""
    if not shutil.which("nvidia-smi"):
        return []
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return []
    return [line.partition(" (UUID")[0] for line in done.stdout.splitlines()] if not done.returncode else []


def options(engine: str, gpus: list[str]) -> tuple[str, ...]:
    """The options of `run`: all GPUs where there are some and the NVIDIA container toolkit can hand them over."""
    return OPTIONS[engine] if gpus and any(map(shutil.which, TOOLKIT)) else ()
