"""Speculative decoding: the same answers, tokens gained, and a refusal where answers change."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tasks import api
from tasks.llm import assisted, drafts, speculative
from tasks.services.llm.client import Answer
from tasks.services.llm.figures import Samples


@pytest.mark.slow
def test_an_assistant_changes_no_answer_and_saves_passes(run_kind):
    points = [{"method": "assistant", "target_layers": 8}, {"method": "prompt_lookup", "target_layers": 8}]
    rows, _ = run_kind("assisted_generation", {"questions": 7, "repeats": 2}, points)
    assistant, lookup = (row["metrics"] for row in rows)
    assert assistant["outputs_equal_pct"] == lookup["outputs_equal_pct"] == 100
    assert assistant["tokens_per_step"] > 1.2
    assert assistant["tokens_per_step"] > lookup["tokens_per_step"] >= 1


@pytest.mark.slow
def test_vllm_with_a_draft_model_says_the_same_and_counts_what_was_accepted(run_kind):
    params = {"layers": 8, "questions": 8, "repeats": 2}
    rows, _ = run_kind("speculative", params, [{"method": "draft", "prompts": "facts"}])
    found = rows[0]["metrics"]
    assert found["outputs_equal_pct"] == 100
    assert 0 < found["acceptance_pct"] <= 100
    assert found["tokens_per_step"] > 1


def test_answers_without_token_ids_are_not_taken_as_equal():
    said, silent = Answer("5", "stop", {}, (7, 2)), Answer("5", "stop", {})
    assert speculative.same_pct([said, said], [said, said]) == 100
    assert speculative.same_pct([said, silent], [said, silent]) == 50


@pytest.mark.parametrize("method", ["ngram", "draft"])
def test_the_guesser_is_what_vllm_is_told(method, tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "home", lambda ctx: tmp_path / "small")
    told = speculative.speculation(method, speculative.Params(guesses=3), None)
    assert told["num_speculative_tokens"] == 3
    assert (told["method"], told.get("model")) == (
        ("ngram", None) if method == "ngram" else ("draft_model", str(tmp_path / "small"))
    )


def test_without_a_draft_only_the_points_that_need_one_are_blocked(tmp_path):
    points = [assisted.Point(method="assistant"), assisted.Point(method="prompt_lookup")]
    settings = {"model": {"id": "qwen2.5-7b", "lm": {"repo": "Qwen/Qwen2.5-7B-Instruct"}}}
    ctx = api.Context(tmp_path, tmp_path, settings, out=tmp_path, points=points, spec="test")
    assert drafts.measurable(ctx, "assistant") == points[1:]
    (row,) = (json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines())
    assert (row["point"], row["blocked"]) == ({"method": "assistant"}, "the model qwen2.5-7b has no draft model")
    assert "qwen3-8b" in row["remedy"]


def test_a_hubs_model_is_loaded_once_for_all_depths(tmp_path):
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 28}', encoding="utf-8")
    points = [assisted.Point(target_layers=layers) for layers in (4, 24)]
    assert assisted.by_target(tmp_path, points) == {tmp_path: points}


def test_a_pass_without_a_guess_is_a_pass_too(tmp_path, monkeypatch):
    """n-gram lookup that finds nothing decodes plainly: one token for each pass, whatever the drafts' counters say."""
    params = speculative.Params(questions=4, repeats=2)
    names = [speculative.STEPS, *(speculative.COUNTER.format(name) for name in ("draft_tokens", "accepted_tokens"))]
    readings = [(9, 0, 0), (33, 0, 0), (33, 0, 0), (45, 16, 12)]
    told = [Samples(dict(zip(names, each, strict=True)), {}) for each in readings]
    answer = Answer("abc", "stop", {"completion_tokens": 3}, (1, 2, 3), seconds=0.1)
    monkeypatch.setattr(speculative.client, "metrics", lambda server: told.pop(0))
    monkeypatch.setattr(speculative, "asked", lambda server, prompts, params: [answer] * len(prompts))
    monkeypatch.setattr(speculative.exam, "exam", lambda *given: SimpleNamespace(prompts=[[1], [2]]))
    ctx = api.Context(tmp_path, tmp_path, {}, out=tmp_path, spec="test")
    for method in ("ngram", "draft"):
        speculative.measure(speculative.Point(method=method), params, ctx, None, "plain", "guessing")
    plain, guessed = (json.loads(line)["metrics"] for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines())
    assert (plain["tokens_per_step"], plain["acceptance_pct"]) == (1, 0)
    assert (guessed["tokens_per_step"], guessed["acceptance_pct"]) == (2, 75)
