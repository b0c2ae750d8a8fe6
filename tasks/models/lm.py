"""Language models as Hugging Face folders: small ones trained on the spot on the questions of `quiz`, or a hub's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from tasks.api import UserError
from tasks.models import cache, hub, lm_training, quiz, shape
from tasks.models.lm_training import END, FACTS, START, TEMPLATE, Facts, Trained, answers, asked, build, new_tokenizer
from tasks.models.shape import Shape

__all__ = [
    "END",
    "FACTS",
    "START",
    "TEMPLATE",
    "TERSE",
    "Facts",
    "Part",
    "Shape",
    "Trained",
    "answers",
    "asked",
    "build",
    "deepened",
    "describe",
    "facts",
    "home",
    "new_tokenizer",
    "worded",
]  # fmt: skip

Part = Literal["base", "draft"]
TERSE = "Answer with the bare answer alone: no sentence, no article, no full stop."
KEYS: dict[Part, str] = {"base": "lm", "draft": "draft"}


def home(settings: Mapping[str, Any], seed: int, say: Callable[[str], None] = print, part: Part = "base") -> Path:
    """The Hugging Face folder of the chosen model: trained or fetched when it is not there yet.

    UserError when the chosen model has no such part, or when a hub's model cannot be had.
    """
    model = settings.get("model", {})
    if not model.get(KEYS[part]):
        what = "language model" if part == "base" else "draft model"
        which = "tiny or qwen2.5-7b" if part == "base" else "tiny, qwen2.5-1.5b or qwen3-8b"
        raise UserError(f"model {model.get('id', '?')!r} has no {what}", remedy=f"choose a model that has one: {which}")
    given = dict(model[KEYS[part]])
    if "repo" in given or "folder" in given:
        return hub.home(hub.Source.model_validate(given), say)
    wanted = Trained.model_validate(given)
    name = f"lm-{cache.key([wanted.model_dump(), seed], [lm_training, quiz])}"
    return cache.obtain(name, lambda stage: lm_training.train(stage, wanted, seed, say))


def facts(folder: Path) -> Facts:
    """How a trained model came about; FileNotFoundError for one that was fetched."""
    return Facts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))


def worded(folder: Path, prompt: str) -> str:
    """A question of `quiz` as it is put to the model of `folder`: only those made here know to answer in a word."""
    return prompt if (folder / FACTS).exists() else f"{TERSE} {prompt}"


def describe(folder: Path) -> Shape:
    """What the folder's `config.json` and weights say; UserError when it is not a model's folder."""
    return shape.read(folder)


def deepened(folder: Path, layers: int, stage: Path) -> Path:
    """The same function with `layers` layers, written to `stage` (new): each added block is an identity that costs.

    An added block is a copy of the last one whose two output projections are zero: all its products are computed, and
    nothing is added to what passes by. The answers are those of the shallow model; time and memory those of a deep one.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    count = model.config.num_hidden_layers
    if layers < count:
        raise UserError(f"{count} layers cannot be deepened to {layers}", where=str(folder))
    changed = model.config.to_diff_dict()
    changed.pop("layer_types", None)
    config = AutoConfig.for_model(**{**changed, "num_hidden_layers": layers})
    weights = dict(model.state_dict())
    for added in range(count, layers):
        for name, tensor in model.model.layers[count - 1].state_dict().items():
            silent = name in ("self_attn.o_proj.weight", "mlp.down_proj.weight")
            weights[f"model.layers.{added}.{name}"] = torch.zeros_like(tensor) if silent else tensor.clone()
    deep: Any = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    deep.load_state_dict(weights)
    stage.mkdir(parents=True)
    deep.generation_config = model.generation_config
    deep.save_pretrained(stage)
    for file in folder.iterdir():
        if not (stage / file.name).exists() and file.is_file() and not file.name.startswith("model"):
            shutil.copyfile(file, stage / file.name)
    return stage
