"""Fine-tuning: rows are read strictly, only adapters are trained, accumulating changes nothing but the memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from tasks import api
from tasks.models import lm
from tasks.training import base, deploy, forgetting, lora, memory, preference, rows, scoring, sft

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
REFERENCE = ROOT / "plans" / "finetune" / "stage-2" / "qa_dataset.jsonl"
FEW = "".join(REFERENCE.read_text(encoding="utf-8").splitlines(keepends=True)[:24])
ROW = {"question": "What is 3+4?", "answer": "7"}


def written(folder: Path, *lines: object) -> Path:
    file = folder / "own.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ('{"question": "half', "Invalid JSON: EOF while parsing a string at column 18"),
        ([1, 2], "should be an object"),
        ({"question": "What is 5+5?"}, "answer: Field required"),
        ({"question": "  ", "answer": "x"}, "question: String should have at least 1 character"),
        ({"question": "What is 5+5?", "answer": 10}, "answer: Input should be a valid string"),
        ({**ROW, "anser": "8"}, "anser: Extra inputs are not permitted"),
        ({"question": "what is  3+4", "answer": "seven"}, "the same question as in line 1"),
        ({"messages": [{"role": "user", "content": "hello"}]}, "must take turns"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path: Path, broken: object, said: str) -> None:
    """Blank lines count, so that the number is the editor's."""
    with pytest.raises(api.UserError, match="1 broken rows") as error:
        rows.read(written(tmp_path, ROW, "", broken))
    assert f"own.jsonl:3: {said}" in error.value.what or said in error.value.what.split("own.jsonl:3: ")[1]


def test_bytes_that_are_no_utf8_are_a_broken_row(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_bytes(json.dumps(ROW).encode() + b'\n{"question": "caf\xe9", "answer": "x"}\n')
    with pytest.raises(api.UserError, match=r"own\.jsonl:2: is not UTF-8"):
        rows.read(file)


def test_questions_that_differ_in_a_sign_are_two(tmp_path: Path) -> None:
    found = rows.read(written(tmp_path, ROW, {"question": "What is 3-4?", "answer": "-1"}))
    assert [row.answer for row in found] == ["7", "-1"]


def test_chat_rows_and_pairs_are_one_thing(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi?"}]
    chat = {"messages": [*turns, {"role": "assistant", "content": "Yes."}], "topic": "greeting"}
    pair = {"question": "Ho?", "answer": "Yes.", "system": "Be short.", "topic": "greeting"}
    one, other = rows.read(written(tmp_path, chat, pair))
    assert one == replace(other, line=1, prompt=tuple(turns))


def test_the_split_is_the_seeds_and_leaks_nothing() -> None:
    whole = rows.read(REFERENCE)
    parts = rows.split(whole, 20, 90)
    assert (len(parts.train), len(parts.held_out)) == (240, 60)
    assert not {row.question for row in parts.train} & {row.question for row in parts.held_out}
    assert rows.split(whole, 20, 90) == parts
    assert rows.split(whole, 20, 91) != parts


def test_wrong_answers_are_of_the_same_topic_and_wrong() -> None:
    whole = rows.read(REFERENCE)
    wrong = preference.wrong_answers(whole, whole, 90)
    of_topic = {row.topic: {each.answer for each in whole if each.topic == row.topic} for row in whole}
    assert all(wrong[row.line] != row.answer and wrong[row.line] in of_topic[row.topic] for row in whole)


def test_the_only_answer_of_a_topic_gets_a_wrong_one_of_another() -> None:
    row = rows.Row(1, ({"role": "user", "content": "?"},), "A", "one")
    assert preference.wrong_answers([row], [row, replace(row, line=2, answer="B", topic="two")], 90) == {1: "B"}
    with pytest.raises(api.UserError, match="line 1: no other row has another answer"):
        preference.wrong_answers([row], [row, replace(row, line=2)], 90)


def test_a_step_s_time_is_not_that_of_setting_up() -> None:
    done = sft.Trained([3.0, 2.0, 1.0], 9.0, [0.1, 0.3], memory.Use(0, 0, 0))
    assert done.step_ms == pytest.approx(200)
    assert replace(done, steps_s=[]).step_ms == 9000


def test_replay_adds_old_questions_in_proportion(tmp_path: Path) -> None:
    new = rows.read(REFERENCE)[:40]
    mixed = forgetting.with_replay(new, 50, tmp_path, 90)
    assert len(mixed) == 60
    assert all(row.question.startswith(lm.TERSE) for row in mixed if not row.line), "a hub's model is told to be terse"
    assert [row for row in mixed if row.line] != new, "the new rows come in random order among the old"


def test_what_is_forgotten_is_counted_of_what_was_known() -> None:
    assert forgetting.lost_pct([True, True, False, True, True], [True, False, True, False, True]) == 50
    with pytest.raises(api.UserError, match="answers none"):
        forgetting.lost_pct([False], [True])


def test_an_answer_is_right_whatever_its_case_and_full_stop() -> None:
    assert scoring.same("Rome", " rome.")
    assert not scoring.same("Rome", "Rome, Italy")


def test_a_recipe_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(api.UserError, match="the stanza has source"):
        lora.named({"source": base.Recipe()}, "sorce")


@pytest.mark.parametrize(("rank", "known"), [(4, 8), (16, 16), (33, 64), (512, 512)])
def test_vllm_is_told_a_rank_that_it_knows(rank: int, known: int, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}), encoding="utf-8")
    assert deploy.rank_of(tmp_path) == known


@pytest.fixture
def few(run_kind: RunKind) -> RunKind:
    """The kind on 24 rows of the reference data."""

    def call(kind: str, params: dict[str, Any], *points: dict[str, Any]) -> tuple[list[dict[str, Any]], Path]:
        return run_kind(kind, params, points or ({},), {"qa_dataset.jsonl": FEW})

    return call


@pytest.mark.slow
def test_rows_are_written_as_the_model_reads_them(few: RunKind) -> None:
    found, out = few("finetune_data", {"least": 20}, {"part": "train"}, {"part": "held_out"})
    train, held_out = (row["metrics"] for row in found)
    assert (train["rows_count"], held_out["rows_count"]) == (20, 4)
    assert train["template_ok"] == held_out["template_ok"] == 1
    text = (out / "held_out.chatml.txt").read_text(encoding="utf-8")
    assert text.startswith("<|im_start|>user\n")
    assert text.count("<|im_start|>assistant\n") == 4


@pytest.mark.slow
def test_only_the_adapter_is_trained_and_kept(few: RunKind) -> None:
    recipes = {"short": {"epochs": 3, "batch": 4, "learning_rate": 0.01}}
    [row], out = few("lora_finetune", {"recipes": recipes, "keep": "short"}, {"recipe": "short"})
    found = row["metrics"]
    assert found["frozen_unchanged_ok"] == 1
    assert found["steps_count"] == 3 * 20 / 4
    assert found["train_loss_last"] < found["train_loss_first"]
    shape = yaml.safe_load((ROOT / "conf" / "model" / "tiny.yaml").read_text(encoding="utf-8"))["lm"]
    values = shape["hidden"] * shape["kv_heads"] // shape["heads"]  # what v_proj gives; q_proj gives `hidden`
    assert found["trainable_parameters"] == shape["layers"] * 8 * (3 * shape["hidden"] + values)
    config = json.loads((out.parent / "day" / "lora_adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], set(config["target_modules"])) == (8, 16, {"q_proj", "v_proj"})


@pytest.mark.slow
def test_a_layer_that_is_not_there_names_those_that_are(few: RunKind) -> None:
    recipes = {"odd": {"targets": ["query_key_value"]}}
    with pytest.raises(AssertionError, match=r"no layer query_key_value\n.*down_proj.*q_proj"):
        few("lora_finetune", {"recipes": recipes, "keep": "odd"}, {"recipe": "odd"})


@pytest.mark.slow
def test_micro_batches_give_the_same_losses_in_less_memory(few: RunKind) -> None:
    points = ({"trained": "lora", "accumulate": 1}, {"trained": "lora", "accumulate": 8}, {"trained": "all"})
    found, _ = few("lora_accumulation", {"rows": 24, "global_batch": 8}, *points)
    whole, cut, every = (row["metrics"] for row in found)
    assert whole["steps_count"] == cut["steps_count"] == 3
    assert cut["loss_max_diff"] < 1e-4
    assert cut["weight_max_diff"] < 1e-4
    assert cut["activations_mib"] < whole["activations_mib"] / 4
    assert every["gradients_mib"] > 20 * whole["gradients_mib"]
    assert every["trainable_pct"] == 100


@pytest.mark.slow
def test_nf4_is_a_sixth_of_the_linear_layers(few: RunKind) -> None:
    recipe = {"epochs": 1, "batch": 10}
    found, _ = few("lora_qlora", {"recipe": recipe}, {"base": "whole"}, {"base": "nf4"})
    whole, nf4 = (row["metrics"] for row in found)
    assert 1 / 8 < nf4["linear_weights_mib"] / whole["linear_weights_mib"] < 1 / 6


@pytest.mark.slow
def test_an_adapter_that_was_never_made_is_missed(few: RunKind) -> None:
    with pytest.raises(AssertionError, match="run the experiment lora-sft first"):
        few("lora_compare", {}, {"model": "tuned"})


@pytest.mark.slow
def test_the_merged_model_is_served_by_vllm_as_transformers_answers(few: RunKind) -> None:
    recipes = {"short": {"epochs": 3, "batch": 4, "learning_rate": 0.01}}
    few("lora_finetune", {"recipes": recipes, "keep": "short"}, {"recipe": "short"})
    found, _ = few("lora_deploy", {}, {"served": "merged"})
    served = found[-1]["metrics"]  # the rows of both kinds lie in one folder
    assert served["tokens_equal_pct"] == 100
    assert served["logits_max_abs_diff"] < 1e-3
    assert served["served_equal_pct"] == 100
