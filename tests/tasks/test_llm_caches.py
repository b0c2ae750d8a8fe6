"""Caches of language models: paging's accounting, traces of given hit rates, and the kinds on a real small model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.llm import paging, prefix_cache

RunKind = Callable[..., tuple[list[dict[str, Any]], Path]]
PLANS = Path(__file__).resolve().parents[2] / "plans"
KV = {"kv_cache_test.py": PLANS / "week12/day79/kv_cache_test.py"}
PROMPTS = {"prompt_cache_demo.py": PLANS / "week12/day81/prompt_cache_demo.py"}
LONG = {"long_context_demo.py": PLANS / "week12/day82/long_context_demo.py"}
FLASH = {"flash_attention.py": PLANS / "twelve_weeks/weeks-5-6/flash_attention.py"}


@pytest.mark.parametrize("policy", ["contiguous_max", "contiguous_power_of_two", "paged"])
def test_every_request_is_served_and_no_slot_is_given_twice(policy: paging.Policy) -> None:
    todo = paging.requests(60, 256, seed=1)
    told = paging.serve(policy, todo, 1024, 256, 16)
    assert all(request.made == request.output for request in todo)
    assert 0 < told.stored <= told.taken <= told.offered
    room = paging.allocator(policy, 1024, 256, 16)
    held = [request for request in paging.requests(60, 256, seed=2) if room.admit(request)]
    slots = [slot for request in held for slot in request.slots]
    assert len(held) > 1
    assert len(slots) == len(set(slots))
    assert all(0 <= slot < 1024 for slot in slots)
    for request in held:
        room.release(request)
    whole = paging.Request(200, 50)
    assert room.admit(whole), "released slots join again"


def test_pages_waste_least() -> None:
    used = {}
    for policy in ("contiguous_max", "contiguous_power_of_two", "paged"):
        told = paging.serve(policy, paging.requests(200, 1024, seed=3), 8192, 1024, 16)
        used[policy] = told.stored / told.offered
    assert used["contiguous_max"] < used["contiguous_power_of_two"] < used["paged"]
    assert used["paged"] > 0.9


def test_a_request_larger_than_the_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="finds no room in 64"):
        paging.serve("paged", [paging.Request(100, 10)], 64, 128, 16)


def test_a_preempted_request_is_finished_later() -> None:
    todo = [paging.Request(30, 60) for _ in range(3)]
    told = paging.serve("paged", todo, 128, 128, 16)
    assert told.preemptions > 0
    assert [request.made for request in todo] == [60, 60, 60]


def test_a_trace_repeats_its_beginning_as_often_as_asked() -> None:
    params = prefix_cache.Params(requests=20, prefix_tokens=64, suffix_tokens=8)
    fill, prompts = prefix_cache.trace(params, 25, 512, seed=5)
    hits = [ids for hit, ids in prompts if hit]
    assert len(hits) == 5
    assert all(ids[:64] == fill[:64] for ids in hits)
    assert len({tuple(ids) for _, ids in prompts}) == 20
    assert all(ids[:16] != fill[:16] for hit, ids in prompts if not hit)
    other, _ = prefix_cache.trace(params, 50, 512, seed=5)
    assert other[:16] != fill[:16], "another point's cache entries must not help this one"


@pytest.mark.slow
def test_the_cache_changes_no_token(run_kind: RunKind) -> None:
    points = [{"kv_cache": "off"}, {"kv_cache": "on"}]
    rows, _ = run_kind("kv_cache", {"prompt_tokens": 32, "new_tokens": 48, "repeats": 1}, points, KV)
    off, on = (row["metrics"] for row in rows)
    assert off["tokens_equal"] == on["tokens_equal"] == 1
    assert min(off["tpot_ms"], on["tpot_ms"]) > 0


@pytest.mark.slow
def test_a_program_that_lacks_a_function_is_named(run_kind: RunKind) -> None:
    with pytest.raises(AssertionError, match=r"kv_cache_test\.py: it defines no full_cache"):
        run_kind("kv_cache", {}, [{}], {"kv_cache_test.py": "def generate(): ...\n"})


@pytest.mark.slow
def test_policies_keep_what_they_say(run_kind: RunKind) -> None:
    params = {"window": 32, "prompt_tokens": 128, "new_tokens": 16, "batch": 2, "repeats": 1, "text_tokens": 192}
    points = [{"cache": name} for name in ("full", "sliding", "static", "quantized_4bit", "quantized_2bit")]
    rows, _ = run_kind("kv_cache_policy", params, points, KV)
    found = {row["point"]["cache"]: row["metrics"] for row in rows}
    assert found["full"]["token_agreement_pct"] == found["static"]["token_agreement_pct"] == 100
    assert found["sliding"]["cache_bytes"] * 4 < found["full"]["cache_bytes"]
    assert (
        found["quantized_2bit"]["cache_bytes"] < found["quantized_4bit"]["cache_bytes"] < found["full"]["cache_bytes"]
    )
    assert found["quantized_4bit"]["token_agreement_pct"] > found["quantized_2bit"]["token_agreement_pct"]


@pytest.mark.slow
def test_memory_grows_as_the_formula_says(run_kind: RunKind) -> None:
    rows, out = run_kind("kv_cache_memory", {"batch": 4}, [{"seq_len": 256}, {"seq_len": 1024}], KV)
    short, long = (row["metrics"] for row in rows)
    assert short["formula_error_pct"] == long["formula_error_pct"] == 0
    assert long["cache_mib"] == 4 * short["cache_mib"]
    assert long["rss_mib"] == pytest.approx(long["cache_mib"], rel=0.3), "the process really takes it"
    assert (out / "memory_curve.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_prompt_cache_finds_what_the_trace_repeats(run_kind: RunKind) -> None:
    params = {"requests": 10, "prefix_tokens": 256, "repeats": 1, "new_tokens": 2}
    rows, _ = run_kind("prompt_cache", params, [{"hit_rate_pct": 90}, {"cache": "off"}], PROMPTS)
    on, off = (row["metrics"] for row in rows)
    assert on["tokens_equal"] == 1
    assert on["observed_hit_rate_pct"] == 90
    assert on["reused_tokens_pct"] > 70  # nine in ten prompts begin with 256 known tokens of 288
    assert 0 < on["cache_bytes"] <= on["cache_limit_bytes"]
    assert off["cache_bytes"] == off["observed_hit_rate_pct"] == 0


@pytest.mark.slow
def test_chunks_change_nothing_and_windows_keep_less(run_kind: RunKind) -> None:
    points = [{"chunk": 64}, {"window": 128}]
    rows, _ = run_kind("long_context", {"tokens": 512, "chunk": 64, "repeats": 1}, points, LONG)
    chunked, window = (row["metrics"] for row in rows)
    assert chunked["max_logit_diff"] < 1e-4 < window["max_logit_diff"]
    assert window["cache_mib"] < chunked["cache_mib"] / 3


@pytest.mark.slow
def test_longer_texts_cost_more(run_kind: RunKind) -> None:
    rows, out = run_kind("long_context_load", {"memory": True}, [{"tokens": 512}, {"tokens": 2048}], LONG)
    short, long = (row["metrics"] for row in rows)
    assert long["cache_mib"] == 4 * short["cache_mib"]
    assert long["peak_memory_mib"] > short["peak_memory_mib"]
    assert (out / "memory_curve.png").exists()


@pytest.mark.slow
def test_fewer_key_value_heads_keep_less(run_kind: RunKind) -> None:
    params = {"context": 256, "batch": 2, "steps": 4}
    rows, _ = run_kind("kv_cache_heads", params, [{"kv_heads": 8}, {"kv_heads": 1}])
    many, one = (row["metrics"] for row in rows)
    assert many["formula_error_pct"] == one["formula_error_pct"] == 0
    assert many["cache_mib"] == 8 * one["cache_mib"]


@pytest.mark.slow
def test_fused_attention_is_exact_and_small(run_kind: RunKind) -> None:
    params = {"heads": 2, "layers": 1, "budget_s": 0.05}
    points = [{"attention": way, "tokens": 1024} for way in ("naive", "tiled", "flash")]
    rows, _ = run_kind("attention_bench", params, points, FLASH)
    found = {row["point"]["attention"]: row["metrics"] for row in rows}
    assert all(each["max_diff"] < 1e-5 for each in found.values())
    assert all(each["logits_diff"] < 1e-4 for each in found.values())
    assert found["flash"]["peak_memory_mib"] < found["naive"]["peak_memory_mib"] / 3


@pytest.mark.slow
def test_vllm_finds_what_the_trace_repeats(run_kind: RunKind) -> None:
    params = {"prefix_tokens": 512, "suffix_tokens": 32, "requests": 8}
    rows, _ = run_kind("prefix_cache", params, [{"hit_rate_pct": 0}, {"hit_rate_pct": 50}])
    none, half = (row["metrics"] for row in rows)
    assert none["observed_hit_rate_pct"] == none["hit_tokens_pct"] == 0
    assert half["observed_hit_rate_pct"] == 50
    assert half["hit_tokens_pct"] == pytest.approx(50 * 512 / 544, abs=2)
    assert min(half["ttft_hit_ms"], half["ttft_miss_ms"]) > 0
