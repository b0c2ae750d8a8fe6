"""Kubernetes quantities: "250m" is 0.25, "1k" is 1000, "512Mi" is 512 × 2^20."""

from __future__ import annotations

import re
from typing import Any

SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
            "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}  # fmt: skip
WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)([numkMGTPE]|[KMGTPE]i|)")


def amount(written: Any) -> float:
    """A quantity as a plain number. Raises ValueError when it is none."""
    match = WRITTEN.fullmatch(str(written))
    if not match:
        raise ValueError(f"{written!r} is no quantity")
    return float(match[1]) * SUFFIXES[match[2]]
