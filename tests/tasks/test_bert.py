"""The small BERT: its task, its cache, its ONNX file, its batches in Triton."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.api import UserError
from tasks.models import bert, cache, reviews

ROOT = Path(__file__).parents[2]
ONNX = ROOT / "tests/checks/bert_onnx/good/small/bert.onnx"

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]


def words(texts: reviews.Texts, row: int) -> list[str]:
    return [reviews.WORDS[index] for index in texts.ids[row] if index != reviews.PAD]


def read(text: list[str]) -> str:
    """The label of a text by a reading of its own: opinion words, turned round after `not` or `never`."""
    balance = 0
    for clause in " ".join(text).split("."):
        found = clause.split()
        good, bad = set(found) & set(reviews.GOOD), set(found) & set(reviews.BAD)
        turned = -1 if {"not", "never"} & set(found) else 1
        balance += turned * (len(good) - len(bad))
    return "balanced" if balance == 0 else "positive" if balance > 0 else "negative"


def test_labels_are_what_the_texts_say() -> None:
    texts = reviews.texts(300, 32, seed=5, test=True)
    assert [reviews.LABELS[label] for label in texts.labels] == [read(words(texts, row)) for row in range(300)]
    counts = [int((texts.labels == label).sum()) for label in range(3)]
    assert min(counts) > 60, "no class can be guessed"


def test_the_same_seed_gives_the_same_texts_and_none_is_in_both_parts() -> None:
    one, again = (reviews.texts(200, 32, seed=5, test=False) for _ in range(2))
    assert (one.ids == again.ids).all()
    other = reviews.texts(200, 32, seed=5, test=True)
    assert [sum(reviews.held_out(words(part, row)) for row in range(200)) for part in (one, other)] == [0, 200]


def test_long_texts_fill_their_length() -> None:
    texts = reviews.texts(4, 512, seed=1, test=True, full=True)
    assert texts.ids.shape == (4, 512)
    assert texts.mask.sum(axis=1).min() > 500
    assert len(reviews.WORDS) <= bert.Encoder().vocab


def test_a_killed_maker_leaves_no_model_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def dies(stage: Path) -> None:
        (stage / "model").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.obtain("m", dies)
    assert [each for each in cache.folder().iterdir() if each.is_dir()] == []
    assert (cache.obtain("m", lambda stage: (stage / "model").touch()) / "model").exists()
    cache.obtain("m", dies)  # it is there: nobody makes it again


def test_the_next_maker_clears_away_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL leaves the stage; that of another model, whose name goes on from this one's, may be in use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stages: list[Path] = []
    cache.obtain("other", stages.append)
    left, used = (cache.folder() / stages[0].name.replace("other", name) for name in ("m", "m-float16"))
    left.mkdir()
    used.mkdir()
    cache.obtain("m", lambda stage: None)
    assert (left.exists(), used.exists()) == (False, True)


def test_of_two_makers_the_later_one_waits_for_the_earlier_ones_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    begun, go_on = threading.Event(), threading.Event()

    def slow(stage: Path) -> None:
        begun.set()
        assert go_on.wait(60)
        (stage / "by").write_text("first", encoding="utf-8")

    def never(stage: Path) -> None:
        raise AssertionError("the model was made twice")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.obtain, "m", slow)
        assert begun.wait(60)
        second = pool.submit(cache.obtain, "m", never)
        go_on.set()
        assert first.result(60) == second.result(60)
    assert (second.result() / "by").read_text(encoding="utf-8") == "first"


def test_another_shape_is_another_model() -> None:
    assert cache.key({"layers": 2}, [reviews]) != cache.key({"layers": 3}, [reviews])
    assert cache.key({}, [reviews]) != cache.key({}, [bert])


def test_a_model_without_an_encoder_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="model 'vast' has no encoder"):
        bert.encoder({"model": {"id": "vast"}})


@pytest.mark.slow
def test_batches_in_triton_are_right(run_kind: RunKind) -> None:
    points = [{"batch": 1}, {"batch": 16}]
    rows, _ = run_kind("triton_bert", {"window_ms": 200}, points, {"bert.onnx": ONNX})
    one, sixteen = (row["metrics"] for row in rows)
    assert max(one["max_abs_error"], sixteen["max_abs_error"]) <= 1e-4
    assert min(one["throughput_samples_s"], sixteen["throughput_samples_s"]) > 0
    assert all(row["spread"]["latency_p50_ms"]["n"] > 1 for row in rows)


@pytest.mark.slow
def test_triton_without_the_days_file_says_what_to_do(run_kind: RunKind) -> None:
    with pytest.raises(AssertionError, match="run the experiment that exports it first"):
        run_kind("triton_bert", {}, [{}])


@pytest.mark.slow
def test_trained_bert_is_exported_and_stands_in_openvino(run_kind: RunKind) -> None:
    rows, out = run_kind("onnx_export", {"budget_s": 0.2}, [{"model": "bert"}])
    [exported] = rows
    assert exported["metrics"]["max_abs_error"] <= 1e-4
    assert exported["metrics"]["accuracy"] > 0.8, "it has really learnt to read: guessing gives 0.34"
    assert "not random" in exported["note"]
    file = out.parent / "day" / "bert.onnx"
    params = {"measure": "precisions", "file": "bert.onnx", "budget_s": 0.2, "calibration_texts": 50}
    rows, _ = run_kind("engine_build", params, [{"precision": "fp16"}, {"precision": "int8"}], {"bert.onnx": file})
    half, eight = (row for row in rows if "precision" in row["point"])
    assert "i8" in eight["note"], "the precision that ran is read from the compiled model"
    assert eight["metrics"]["output_cosine"] > 0.99
    assert eight["metrics"]["engine_size_mb"] < half["metrics"]["engine_size_mb"]
    assert abs(eight["metrics"]["accuracy"] - eight["metrics"]["accuracy_fp32"]) < 0.05
