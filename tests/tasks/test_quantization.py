"""Quantized and pruned models: what is asked of them is measured on the small model made on the spot."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from tasks.llm import checkpoints, compression, exam, pace
from tasks.models import lm


@pytest.mark.slow
def test_two_bits_cost_predictions_and_save_memory_and_gptq_looks_at_outputs_not_weights(run_kind):
    points = [{"method": "rtn", "bits": 8}, {"method": "rtn", "bits": 2}, {"method": "gptq", "bits": 2}]
    rows, _ = run_kind("quantize_bits", {"questions": 60, "samples": 48}, points)
    eight, plain, repaired = (row["metrics"] for row in rows)
    assert 10 * eight["prediction_kl"] < min(repaired["prediction_kl"], plain["prediction_kl"])
    assert repaired["weight_error_pct"] > plain["weight_error_pct"], (
        "GPTQ minimises the output's error, not the weights'"
    )
    assert eight["bits_per_weight"] - plain["bits_per_weight"] == 6
    assert plain["size_mb"] < 0.6 * eight["size_mb"]


@pytest.mark.slow
def test_int8_at_loading_halves_the_weights_and_keeps_the_answers(run_kind):
    points = [{"precision": "bf16"}, {"precision": "bnb_int8"}, {"precision": "bnb_nf4"}]
    small = {"layers": 2, "hidden": 512, "heads": 8, "kv_heads": 2, "intermediate": 1408}
    rows, _ = run_kind("quantize_load", {"questions": 40, "repeats": 2, "twin": small}, points)
    plain, int8, nf4 = (row["metrics"] for row in rows)
    assert int8["weights_mb"] < 0.6 * plain["weights_mb"]
    assert nf4["weights_mb"] < 0.75 * int8["weights_mb"]
    assert int8["agreement_pct"] >= 80


@pytest.mark.slow
def test_pruning_counts_what_it_removed_and_only_channels_shrink_the_matrices(run_kind):
    points = [{"method": method, "sparsity": 0.5} for method in ("magnitude", "wanda", "sparsegpt", "channels")]
    rows, _ = run_kind("prune", {"questions": 20, "samples": 32, "budget_s": 0.1}, [{"sparsity": 0.0}, *points])
    whole, *found = (row["metrics"] for row in rows)
    assert whole["agreement_pct"] == 100
    assert [round(row["sparsity_pct"]) for row in found[:3]] == [50, 50, 50]
    assert {row["multiplications_m"] for row in found[:3]} == {whole["multiplications_m"]}
    assert found[3]["multiplications_m"] < whole["multiplications_m"]
    assert found[3]["size_mb"] < whole["size_mb"]


@pytest.mark.slow
def test_a_gptq_checkpoint_is_served_by_vllm_and_answers_like_the_original(run_kind):
    [row], _ = run_kind("quantize", {"questions": 40, "budget_s": 0.2}, [{"method": "gptq_w4a16"}])
    if "blocked" in row:
        assert "AVX-512" in row["blocked"]
        return
    found = row["metrics"]
    assert found["bits_per_weight"] < 9
    assert found["agreement_pct"] >= 60
    assert found["throughput_tps"] > 0


@pytest.mark.parametrize(
    ("flags", "method", "lacks"),
    [("avx2", "gptq_w4a16", True), ("avx2", "rtn_w8a8", False), ("avx2 avx512f", "awq_w4a16", False)],
)
def test_four_bits_are_blocked_on_a_cpu_for_which_vllm_has_no_kernel(flags, method, lacks, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t: fpu {flags}\n", encoding="utf-8")
    monkeypatch.setattr(checkpoints, "CPUINFO", cpuinfo)
    monkeypatch.setattr(checkpoints.pace, "on_gpu", lambda: False)
    monkeypatch.setattr(checkpoints.platform, "machine", lambda: "x86_64")
    assert bool(checkpoints.unserved(method)) == lacks


@pytest.mark.parametrize(
    ("hidden", "intermediate", "group"), [(128, 384, 32), (896, 4864, 128), (3584, 18944, 128), (576, 1536, 32)]
)
def test_weights_share_a_scale_by_128_where_rows_allow_it(hidden, intermediate, group):
    config = SimpleNamespace(hidden_size=hidden, intermediate_size=intermediate)
    assert compression.group_size(config) == group


def test_agreement_compares_the_texts_not_their_margins():
    one = exam.Marks(["5", " red cat", "Oslo"], 0, 1)
    other = exam.Marks(["5 ", "red cat", "Rome"], 0, 1)
    assert one.agreement_pct(other) == pytest.approx(200 / 3)


def test_speed_is_measured_on_other_prompts_each_time_and_not_in_the_warm_up(monkeypatch):
    asked = []

    def concurrently(endpoint, prompts, concurrency, tokens, **more):
        asked.append(prompts)
        return [SimpleNamespace(tokens=tokens) for _ in prompts]

    monkeypatch.setattr(pace.client, "concurrently", concurrently)
    monkeypatch.setattr(pace.client, "span_s", lambda answers: 2.0)
    prompts = [[n] for n in range(100)]
    rates = pace.speeds(SimpleNamespace(), prompts, 4, 16, budget_s=0)
    assert rates == [32.0] * pace.MIN_REPEATS
    assert len(asked) == len(rates) + 1
    assert asked[0] != asked[1] != asked[2]


class Words:
    """A tokenizer of whole words, with a template like Qwen3's, which thinks unless it is told not to."""

    eos_token_id = -1

    def __init__(self, folder):
        self.name_or_path = str(folder)

    def apply_chat_template(self, turns, *, tokenize, add_generation_prompt, enable_thinking=True):
        return f"user {turns[0]['content']} assistant {'<think>' if enable_thinking else ''}"

    def __call__(self, texts, add_special_tokens):
        split = [text.split() for text in ([texts] if isinstance(texts, str) else texts)]
        return {"input_ids": split[0] if isinstance(texts, str) else split}


def test_a_hubs_model_is_told_to_answer_in_a_word_and_one_made_here_is_asked_as_it_was_taught(tmp_path):
    (made,) = exam.exam(Words(tmp_path / "hub"), 1, 90).prompts
    assert " ".join(made).startswith(f"user {lm.TERSE} ")
    assert "<think>" not in made
    (tmp_path / lm.FACTS).write_text("{}", encoding="utf-8")
    given = exam.exam(Words(tmp_path), 1, 90)
    assert " ".join(given.prompts[0]) == f"user {given.questions[0].prompt} assistant"


def test_a_model_written_anew_into_the_same_folder_is_another_one(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"one")
    before = compression.stamps(tmp_path)
    assert compression.stamps(tmp_path) == before
    os.utime(weights, ns=(0, 0))
    assert compression.stamps(tmp_path) != before
