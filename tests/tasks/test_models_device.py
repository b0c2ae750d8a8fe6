"""A point for which the GPU's memory does not do is blocked, and the next one goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import api
from tasks.llm.prune import Point
from tasks.models import device


class OutOfMemoryError(RuntimeError):
    """torch's own."""


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A torch with a GPU, and how often its cache was emptied."""
    times: list[int] = []
    cuda = SimpleNamespace(is_available=lambda: True, empty_cache=lambda: times.append(1))
    fake: Any = SimpleNamespace(OutOfMemoryError=OutOfMemoryError, cuda=cuda)
    monkeypatch.setitem(sys.modules, "torch", fake)
    return times


def test_too_little_memory_blocks_the_point_and_the_next_one_is_measured(tmp_path: Path, emptied: list[int]) -> None:
    ctx = api.Context(tmp_path, tmp_path, {}, out=tmp_path, spec="test")
    for sparsity in (0.5, 0.7):
        with device.spared(Point(sparsity=sparsity), ctx):
            if sparsity == 0.5:
                raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity")
            ctx.record(Point(sparsity=sparsity), {"forward_ms": 1.0})
    blocked, measured = (json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines())
    assert blocked["blocked"].endswith("memory is too small: CUDA out of memory. Tried to allocate 20.00 GiB")
    assert "smaller model" in blocked["remedy"]
    assert measured["point"] == {"sparsity": 0.7}
    assert len(emptied) == 2


def test_any_other_error_is_not_taken_for_a_lack_of_memory(tmp_path: Path, emptied: list[int]) -> None:
    ctx = api.Context(tmp_path, tmp_path, {}, out=tmp_path, spec="test")
    with pytest.raises(ValueError, match="a bug"), device.spared(Point(), ctx):
        raise ValueError("a bug")
    assert not (tmp_path / "rows.jsonl").exists()
    assert emptied
