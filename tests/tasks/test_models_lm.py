"""The small language models: trained twice they are the same, they answer, they can be deepened; folders of others."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner import environments
from tasks.api import Needs, UserError
from tasks.models import hub, lm, shape

ROOT = Path(__file__).parents[2]
CONFIG = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "vocab_size": 300, "max_position_embeddings": 512,
}  # fmt: skip


def model_folder(folder: Path, **config: Any) -> Path:
    """A folder with the files of a model; the weights are a header without data."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}), encoding="utf-8")
    tensors = {
        "__metadata__": {"format": "pt"},
        "embed": {"dtype": "BF16", "shape": [300, 64], "data_offsets": [0, 38400]},
        "norm": {"dtype": "F32", "shape": [64], "data_offsets": [38400, 38656]},
    }
    head = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def test_the_shape_is_read_from_config_and_headers(tmp_path: Path) -> None:
    found = lm.describe(model_folder(tmp_path))
    assert (found.layers, found.heads, found.kv_heads, found.head_dim) == (2, 4, 2, 16)
    assert (found.parameters, found.dtype, found.max_positions) == (300 * 64 + 64, "bfloat16", 512)


def test_a_vision_models_text_part_is_read(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "config.json").write_text(json.dumps({"text_config": {**CONFIG, "head_dim": 32}}), encoding="utf-8")
    assert lm.describe(folder).head_dim == 32


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        lm.describe(tmp_path)
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match=r"model\.safetensors: this is not a safetensors file, or not a whole one"):
        lm.describe(folder)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json: this is not JSON"):
        lm.describe(folder)
    other = model_folder(tmp_path / "other")
    (other / "config.json").write_text('{"num_attention_heads": 2}', encoding="utf-8")
    with pytest.raises(UserError, match="it does not say 'num_hidden_layers': this is not a decoder"):
        shape.read(other)


def test_a_folder_without_tokenizer_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    settings = {"model": {"id": "own", "lm": {"folder": str(folder)}}}
    assert lm.home(settings, 90) == folder
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"the tokenizer is missing(.|\n)*copy the tokenizer files"):
        lm.home(settings, 90)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="weights in other formats are not loaded"):
        hub.whole(folder)


def test_a_folder_that_lacks_a_part_of_the_weights_names_it(tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}), "utf-8")
    with pytest.raises(UserError, match=r"1 files of its weights are missing: model-2\.safetensors"):
        hub.whole(folder)


def test_a_model_without_draft_says_which_have_one() -> None:
    with pytest.raises(UserError, match=r"'qwen2\.5-7b' has no draft model(.|\n)*qwen3-8b"):
        lm.home({"model": {"id": "qwen2.5-7b", "lm": {"repo": "Qwen/Qwen2.5-7B-Instruct"}}}, 90, part="draft")


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["serving", "training"])
def test_a_model_is_trained_read_deepened_and_the_same_again(environment: str, tmp_path: Path) -> None:
    python = environments.provision_all(ROOT, Needs(backend="torch", environment=environment), "managed", print)
    argv = [str(python), str(Path(__file__).with_name("lm_program.py")), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["plain_pct"] > 50
    assert found["chat_pct"] > 50
    assert found["template"] == found["asked"]
    assert found["digits"] == ["1", "2", "3", "4"]
    assert found["same_logits"]
    assert (found["shape"]["layers"], found["deep_layers"], found["deep_tokenizer"]) == (2, 5, True)
    assert found["shape"]["dtype"] == "float32"
    first, again, other = found["repeats"]
    assert first == again
    assert first != other
