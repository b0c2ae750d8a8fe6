"""What fits into a GPU: formulas against published sizes, and the concrete answer for the source's 8 GB card."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tasks.models import fit, hub
from tasks.models.shape import Shape

GIB = fit.GIB
FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
MODELS = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in FILES]
SHAPES = fit.shapes(MODELS)


def test_every_hub_model_of_the_settings_is_pinned() -> None:
    parts = [model[part] for model in MODELS for part in ("lm", "draft") if "repo" in model.get(part, {})]
    assert len(parts) >= 7
    for part in parts:
        assert len(hub.Source.model_validate(part).revision) == 40


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_accounts_for_its_parameters(name: str) -> None:
    """All but biases and norms are matrices that the formula counts: less than 0.1 % of the weights."""
    shape = SHAPES[name]
    counted = fit.decoder_parameters(shape) + fit.embedding_parameters(shape)
    assert 0 <= shape.parameters - counted < 0.001 * shape.parameters


def test_weights_and_kv_cache_of_qwen_7b() -> None:
    shape = SHAPES["qwen2.5-7b"]
    assert fit.weights_bytes(shape) == 2 * 7_615_616_512
    assert fit.kv_bytes_per_token(shape) == 57_344  # 2 × 28 layers × 4 heads × 128 × 2 bytes: 56 KiB
    assert fit.kv_bytes_per_token(SHAPES["llama-3.1-8b"]) == 131_072  # 128 KiB
    assert 5.5e9 < fit.weights_bytes(shape, "int4") < 6.2e9  # the AWQ folder of the hub weighs 5.6 GB


def test_tied_embeddings_are_counted_once() -> None:
    assert fit.embedding_parameters(SHAPES["qwen2.5-0.5b"]) == 151_936 * 896
    assert fit.embedding_parameters(SHAPES["mistral-7b"]) == 2 * 32_768 * 4096


def test_the_eight_gigabyte_card_has_a_concrete_answer() -> None:
    seven = SHAPES["qwen2.5-7b"]
    assert fit.longest_context(SHAPES["qwen2.5-1.5b"], 8 * GIB) == 32_768
    assert 4096 < fit.longest_context(seven, 8 * GIB, "int4") < 16_384
    assert fit.longest_context(seven, 8 * GIB, "bf16") == fit.longest_context(seven, 8 * GIB, "int8") == 0
    assert fit.largest_that_fits(8 * GIB, SHAPES) == "qwen2.5-1.5b"
    assert SHAPES[fit.largest_that_fits(8 * GIB, SHAPES, precision="int4")].parameters > 7e9


def test_nothing_fits_into_too_little() -> None:
    assert not fit.largest_that_fits(GIB, SHAPES)


def test_a_model_computed_in_32_bits_takes_twice_the_memory() -> None:
    shape = SHAPES["qwen2.5-0.5b"]
    plain, wide = (fit.memory(shape, precision, gpu=False) for precision in ("bf16", "fp32"))
    assert (wide.weights, wide.kv) == (2 * plain.weights, 2 * plain.kv)


def test_longer_context_and_more_sequences_take_what_the_formula_says() -> None:
    shape = SHAPES["qwen3-8b"]
    one, four = fit.memory(shape, tokens=4096), fit.memory(shape, tokens=4096, sequences=4)
    assert four.kv == 4 * one.kv == 4 * 4096 * 147_456
    assert one.total == one.weights + one.kv + one.activations + one.runtime
    assert fit.memory(shape, gpu=False).runtime == 0


def test_a_context_that_is_said_to_fit_fits() -> None:
    shape: Shape = SHAPES["qwen2.5-7b"]
    longest = fit.longest_context(shape, 18 * GIB)
    assert 0 < longest < shape.max_positions
    assert fit.memory(shape, tokens=longest).total <= 18 * GIB * fit.USABLE
