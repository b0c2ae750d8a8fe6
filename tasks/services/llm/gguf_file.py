"""A Hugging Face folder as one GGUF file, for llama.cpp and OpenVINO GenAI: Qwen2, Qwen3, Llama and Mistral shapes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.models import cache as cached

ARCHITECTURES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama", "mistral": "llama"}
ROTATED = ("q_proj", "k_proj")  # llama.cpp rotates neighbours where Hugging Face rotates halves: rows are reordered
NORMAL, CONTROL = 1, 3  # kinds of token
QWEN_REGEX, LLAMA_REGEX = r"|\p{N}|", r"|\p{N}{1,3}|"


def obtain(model: Path, dtype: str, cache: Path | None) -> Path:
    """The converted file in `cache`, or beside this user's models: made once for the same weights and settings."""
    home = cache or cached.folder()
    home.mkdir(parents=True, exist_ok=True)
    parts = [model / "config.json", model / "tokenizer.json", *sorted(model.glob("*.safetensors"))]
    state = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    key = cached.key([str(model.resolve()), state, dtype], [sys.modules[__name__]])
    target = home / f"{model.name}-{dtype}-{key}.gguf"
    if not target.exists():
        stage = target.with_suffix(f".{os.getpid()}")
        try:
            write(model, stage, dtype)
            os.replace(stage, target)
        finally:
            stage.unlink(missing_ok=True)
    return target


def write(model: Path, target: Path, dtype: str = "bfloat16") -> None:
    """Convert `model` to `target` with matrices in `dtype` (bfloat16, float16, float32) and norms in float32.

    Raises UserError for an architecture, positions or a way of splitting words that this conversion does not know.
    """
    import gguf

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    family = ARCHITECTURES.get(config["model_type"])
    if family is None:
        known = ", ".join(ARCHITECTURES)
        raise UserError(f"no GGUF conversion for {config['model_type']!r}", where=str(model), remedy=f"known: {known}")
    if (scaling := stretched(config)) != "default":
        remedy = "take an engine that reads the folder itself: vllm or transformers"
        raise UserError(f"no GGUF conversion for positions scaled as {scaling!r}", where=str(model), remedy=remedy)
    writer = gguf.GGUFWriter(target, family)
    shape(
        writer,
        config,
        getattr(gguf.LlamaFileType, {"bfloat16": "MOSTLY_BF16", "float16": "MOSTLY_F16"}.get(dtype, "ALL_F32")),
    )
    words(writer, model, int(config["vocab_size"]))
    weights(writer, model, config, family, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stretched(config: Mapping[str, Any]) -> str:
    """How the rotary positions are scaled for longer texts: Llama 3.1 scales them at every length."""
    told = config.get("rope_scaling") or config.get("rope_parameters") or {}
    return str(told.get("rope_type") or told.get("type") or "default")


def shape(writer: Any, config: Mapping[str, Any], file_type: int) -> None:
    heads = int(config["num_attention_heads"])
    rope = config.get("rope_parameters") or {}
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    writer.add_rope_dimension_count(head_size(config))
    writer.add_rope_freq_base(float(config.get("rope_theta") or rope.get("rope_theta") or 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(file_type)


def head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def words(writer: Any, model: Path, size: int) -> None:
    """The byte-level BPE vocabulary, merges and special tokens."""
    found = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    ids = dict(found["model"]["vocab"])
    special = {token["content"] for token in found["added_tokens"] if token["special"]}
    ids |= {token["content"]: token["id"] for token in found["added_tokens"]}
    names = {index: token for token, index in ids.items()}
    tokens = [names.get(index, f"[unused{index}]") for index in range(size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting(found["pre_tokenizer"], model))
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if token in special or token.startswith("[unused") else NORMAL for token in tokens])
    merges = found["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    for kind in ("eos", "bos", "pad"):
        token = settings.get(f"{kind}_token")
        token = token["content"] if isinstance(token, dict) else token
        if token in ids:
            getattr(writer, f"add_{kind}_token_id")(ids[token])
    writer.add_add_bos_token(bool(settings.get("add_bos_token", False)))
    template = model / "chat_template.jinja"
    chat = template.read_text(encoding="utf-8") if template.exists() else settings.get("chat_template")
    if chat:
        writer.add_chat_template(chat)


def splitting(before: Mapping[str, Any] | None, model: Path) -> str:
    """llama.cpp's name for how the tokenizer splits text before merging."""
    steps = before.get("pretokenizers", [before]) if before else []
    patterns = [step["pattern"].get("Regex", "") for step in steps if step["type"] == "Split"]
    for mark, name in ((LLAMA_REGEX, "llama-bpe"), (QWEN_REGEX, "qwen2")):
        if any(mark in pattern for pattern in patterns):
            return name
    kinds = [step["type"] for step in steps]
    if kinds == ["Digits", "ByteLevel"]:
        return "starcoder"  # each digit alone, then GPT-2's words
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    raise UserError(f"no GGUF name for the word splitting {kinds}", where=str(model / "tokenizer.json"))


def weights(writer: Any, model: Path, config: Mapping[str, Any], family: str, dtype: str) -> None:
    import gguf
    import torch
    from safetensors import safe_open

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.upper()], int(config["num_hidden_layers"]))
    reorder = rotation(config) if family == "llama" else None
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in list(tensors.keys()):
                tensor = tensors.get_tensor(name)
                stem, _, suffix = name.rpartition(".")
                target = names.get_name(stem)
                if target is None:
                    raise UserError(f"no GGUF name for the tensor {name}", where=str(file))
                if reorder and any(part in stem for part in ROTATED):
                    tensor = reorder(tensor, "q_proj" in stem)
                kept = torch.float32 if tensor.dim() == 1 else getattr(torch, dtype)
                add(writer, f"{target}.{suffix}", tensor.to(kept).contiguous())


def add(writer: Any, name: str, tensor: Any) -> None:
    """numpy has no bfloat16: its bytes go in as they are, with their type."""
    import gguf
    import torch

    if tensor.dtype == torch.bfloat16:
        raw = tensor.view(torch.uint8).numpy()
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, tensor.numpy())


def rotation(config: Mapping[str, Any]) -> Callable[[Any, bool], Any]:
    """Rows of a query or key matrix: from two halves of a head to neighbouring pairs."""
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)

    def reorder(tensor: Any, query: bool) -> Any:
        count = heads if query else kv_heads
        halves = tensor.reshape(count, 2, tensor.shape[0] // count // 2, *tensor.shape[1:])
        return halves.swapaxes(1, 2).reshape(tensor.shape)

    return reorder
