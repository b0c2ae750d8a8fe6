"""What lies beside the tiny LLaVA's weights: vocabulary, tokenizer, chat template, picture processor, questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.models import scenes
from tasks.models.scenes import Scene

DESCRIBE = "describe the picture"
WORDS = sorted(
    {word for scene in scenes.PAIRS for word in scene.caption.split()} | {*DESCRIBE.split(), "what", "colour", "is"}
)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "USER:", "ASSISTANT:")
VOCABULARY = (*SPECIAL, *WORDS)
PAD, BOS, EOS, UNKNOWN, IMAGE = range(5)
WEIGHTS = "model.safetensors"
TOWER = "vision_tower."  # the published LLaVA calls its weights `vision_tower.vision_model.…`; vLLM knows no other name
MEAN = STD = (0.5, 0.5, 0.5)
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %} ASSISTANT: {% else %}USER: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<image> {% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Question:
    task: str
    prompt: str
    answer: str


def questions(scene: Scene) -> list[Question]:
    """What can be asked of a picture: its description, and the colour of each shape that is there once."""
    found = [Question("describe", DESCRIBE, scene.caption)]
    if scene.second and scene.first.shape != scene.second.shape:
        for thing in (scene.first, scene.second):
            found.append(Question("colour", f"what colour is the {thing.shape}", thing.colour))
    return found


def ids(text: str) -> list[int]:
    return [VOCABULARY.index(word) if word in VOCABULARY else UNKNOWN for word in text.split()]


def text(tokens: Sequence[int]) -> str:
    """The words up to the end of the answer."""
    kept = list(tokens)[: list(tokens).index(EOS)] if EOS in tokens else tokens
    return " ".join(VOCABULARY[token] for token in kept if token >= len(SPECIAL))


def prompt_ids(prompt: str, patch: int) -> list[int]:
    """What the chat template and the processor make of a question about one picture."""
    picture = [IMAGE] * (scenes.SIDE // patch) ** 2
    return [BOS, *ids("USER:"), *picture, *ids(prompt), *ids("ASSISTANT:")]


def pixels(pictures: Sequence[Any]) -> Any:
    """uint8 [n] x [SIDE, SIDE, 3] as the processor gives them to the model: float32 [n, 3, SIDE, SIDE] in [-1, 1]."""
    import numpy
    import torch

    return torch.from_numpy(numpy.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def write(folder: Path, model: Any, patch: int) -> None:
    """The model and everything that is needed to serve it."""
    from safetensors.torch import load_file, save_file

    processor(patch).save_pretrained(folder)
    model.generation_config.do_sample = False
    model.generation_config.max_new_tokens = 16
    model.save_pretrained(folder)
    weights = load_file(folder / WEIGHTS)
    published = {name.replace(TOWER, f"{TOWER}vision_model.", 1): weight for name, weight in weights.items()}
    save_file(published, folder / WEIGHTS, metadata={"format": "pt"})


def processor(patch: int) -> Any:
    """A LlavaProcessor: word-level tokenizer, pictures of 32 x 32, one token for each patch."""
    from transformers import LlavaProcessor

    return LlavaProcessor(
        pictures(), tokenizer(), patch_size=patch, vision_feature_select_strategy="default",
        chat_template=TEMPLATE, image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip


def pictures() -> Any:
    from transformers import CLIPImageProcessorPil

    side = {"height": scenes.SIDE, "width": scenes.SIDE}
    return CLIPImageProcessorPil(size={"shortest_edge": scenes.SIDE}, crop_size=side, image_mean=MEAN, image_std=STD)


def tokenizer() -> Any:
    """Words are tokens; `<s>` is put before every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>", "USER:", "ASSISTANT:"], chat_template=TEMPLATE,
    )  # fmt: skip
