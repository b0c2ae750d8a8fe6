"""Which model of `conf/model` a record was measured on, in words: a small one must not pass for a real one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tasks.documents.stored import Record

PARTS = {"vlm": ("vlm",), "diffusion": ("diffusion",), "multimodal_demo": ("vlm", "diffusion")}  # others measure `lm`
OWN = ("engine_build", "onnx_export", "onnx_infer", "llm_moe")  # kinds with other models, which their days describe
WIDER = ("quantize_gain", "quantize_load", "llm_profile", "llm_roofline")  # see tasks/llm/twin.py
DEEPER = ("speculative", "assisted_generation")  # see tasks/llm/deeper.py
SPOT = re.compile(r"on the spot|[现当]场", re.IGNORECASE)

WORDS = {
    "en": {
        "made": "{}, small and trained on the spot",
        "size": " ({layers} layers of width {hidden})",
        "wider": "; size, speed and memory are those of a wider one with random weights",
        "deeper": ", deepened by layers that change no answer",
        "and": " and ",
    },
    "zh": {
        "made": "现场训练的小模型 {}",
        "size": "（{layers} 层，宽度 {hidden}）",
        "wider": "，体积、速度与内存取自更宽的随机权重模型",
        "deeper": "，并用不改变答案的层加深",
        "and": "与",
    },
}


@dataclass(frozen=True)
class Model:
    """`names` are the ways to call it, the fullest first; `size` holds layers and width of a language model."""

    names: tuple[str, ...]
    made_here: bool
    size: Mapping[str, int] = field(default_factory=dict)


def of(record: Record) -> list[Model]:
    """The models that the record's settings name; none for a record that depends on none."""
    settings = record["settings"].get("model")
    if not settings or record["kind"] in OWN:
        return []
    return [chosen(settings, part) for part in PARTS.get(record["kind"], ("lm",))]


def chosen(settings: Mapping[str, object], part: str) -> Model:
    """A hub's model or a folder's by that name; otherwise what is made here, `tiny-vlm` where nothing else is said."""
    given = settings.get(part)
    told = given if isinstance(given, Mapping) else {}
    if source := told.get("folder") or told.get("repo"):
        return Model((PurePosixPath(source).name, str(settings["id"])), made_here=False)
    name = str(settings["id"]) if told else f"tiny-{part}"
    return Model((name,), made_here=True, size={key: told[key] for key in ("layers", "hidden") if key in told})


def words(record: Record, lang: str = "en") -> str:
    """What a document says of them; empty for a record without a model."""
    said = WORDS[lang]
    return said["and"].join(described(model, record["kind"], said) for model in of(record))


def described(model: Model, kind: str, said: Mapping[str, str]) -> str:
    if not model.made_here:
        return model.names[0]
    text = said["made"].format(model.names[0])
    if len(model.size) == 2:
        text += said["size"].format(**model.size)
    return text + (said["wider"] if kind in WIDER else said["deeper"] if kind in DEEPER else "")


def named(model: Model, text: str) -> bool:
    """Whether a text says what was measured: a real model's name, or that it was made on the spot."""
    if model.made_here:
        return bool(SPOT.search(text))
    return any(name.lower() in text.lower() for name in model.names)
