"""The shape of a language model: what its folder's `config.json` and its weights' headers say. Nothing is loaded."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.api import Params, UserError

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


class Shape(Params):
    """`parameters` counts tied weights once; `heads` are query heads, `kv_heads` those of keys and values."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    parameters: int
    dtype: str = "bfloat16"
    max_positions: int = 32768


def read(folder: Path) -> Shape:
    """The shape of a Hugging Face folder with safetensors; UserError naming the file that is missing or broken."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("there is no config.json: this is not a Hugging Face model", where=str(folder)) from error
    except ValueError as error:
        raise UserError(f"this is not JSON: {error}", where=str(file)) from error
    text: Mapping[str, Any] = config.get("text_config") or config
    stored = [entry for weights in sorted(folder.glob("*.safetensors")) for entry in header(weights).values()]
    if not stored:
        raise UserError("there is no *.safetensors", where=str(folder))
    try:
        return _shape(text, stored)
    except KeyError as error:
        raise UserError(f"it does not say {error}: this is not a decoder", where=str(file)) from error


def _shape(config: Mapping[str, Any], stored: list[dict[str, Any]]) -> Shape:
    largest = max(stored, key=lambda entry: math.prod(entry["shape"]))
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"], hidden=config["hidden_size"], heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate=config["intermediate_size"], vocab=config["vocab_size"],
        parameters=sum(math.prod(entry["shape"]) for entry in stored),
        dtype=DTYPES.get(largest["dtype"], largest["dtype"].lower()),
        max_positions=config["max_position_embeddings"],
    )  # fmt: skip


def header(weights: Path) -> dict[str, dict[str, Any]]:
    """The tensors of a safetensors file: name → `dtype`, `shape`. Format: 8 bytes length, then JSON of that length."""
    with weights.open("rb") as file:
        raw = file.read(8)
        length = struct.unpack("<Q", raw)[0] if len(raw) == 8 else 0
        text = file.read(length) if 0 < length <= weights.stat().st_size else b""
    try:
        found: dict[str, dict[str, Any]] = json.loads(text)
    except ValueError as error:
        raise UserError("this is not a safetensors file, or not a whole one", where=str(weights)) from error
    found.pop("__metadata__", None)
    return found
