"""A LLaVA of small parts, made and trained on the spot on the pictures of `scenes`: it tells what it has not seen.

CLIP vision tower, projector and Llama decoder are transformers' own classes, and the folder is an ordinary Hugging
Face one (config, safetensors, tokenizer, processor, chat template): transformers and vLLM load it like any LLaVA.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.api import Params
from tasks.models import cache, scenes, vlm_files, vlm_lessons
from tasks.models.vlm_files import DESCRIBE

FACTS = "facts.json"
INIT_STD = 0.05  # 0.02 is meant for far wider networks
HELD_OUT = 200  # pictures


class Shape(Params):
    """Shape and training: the `vlm` part of a model's settings."""

    patch: int = 8
    vision_hidden: int = 64
    vision_layers: int = 3
    hidden: int = 96
    layers: int = 2
    heads: int = 3
    vision_steps: int = 500
    train_steps: int = 1100
    train_batch: int = 24
    learning_rate: float = 0.002


@dataclass(frozen=True)
class Facts:
    """How the cached model came about: held-out descriptions right (share), CPU seconds, parameters."""

    exact_match: float
    train_cpu_s: float
    parameters: int
    seed: int


def shape(settings: Mapping[str, Any]) -> Shape:
    """The part `vlm` of the chosen model, else the tiny one: a language model's settings do not name any."""
    return Shape.model_validate(dict(settings.get("model", {}).get("vlm", {})))


def home(settings: Mapping[str, Any], seed: int, say: Callable[[str], None] = print) -> Path:
    """The model's Hugging Face folder; it is trained when it is not cached yet."""
    wanted = shape(settings)
    name = f"vlm-{cache.key([wanted.model_dump(), seed], [sys.modules[__name__], vlm_files, vlm_lessons, scenes])}"
    return cache.obtain(name, lambda stage: train(stage, wanted, seed, say))


def facts(folder: Path) -> Facts:
    return Facts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))


def build(wanted: Shape) -> Any:
    """An untrained LLaVA."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=wanted.vision_hidden, intermediate_size=2 * wanted.vision_hidden, image_size=scenes.SIDE,
        num_hidden_layers=wanted.vision_layers, num_attention_heads=2, patch_size=wanted.patch,
        projection_dim=wanted.vision_hidden,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(vlm_files.VOCABULARY), hidden_size=wanted.hidden, intermediate_size=2 * wanted.hidden,
        num_hidden_layers=wanted.layers, num_attention_heads=wanted.heads, num_key_value_heads=wanted.heads,
        max_position_embeddings=256, initializer_range=INIT_STD, tie_word_embeddings=False,
        pad_token_id=vlm_files.PAD, bos_token_id=vlm_files.BOS, eos_token_id=vlm_files.EOS,
    )  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision, text_config=text, image_token_index=vlm_files.IMAGE, vision_feature_layer=-1,
            vision_feature_select_strategy="default", image_seq_length=(scenes.SIDE // wanted.patch) ** 2,
            tie_word_embeddings=False,
        )
    )  # fmt: skip


def train(stage: Path, wanted: Shape, seed: int, say: Callable[[str], None]) -> None:
    """Train a new model and write its folder to `stage`. Steps, never a time: deterministic."""
    import torch

    torch.set_num_threads(1)  # two spinning threads are far slower than one on a busy two-core box
    torch.manual_seed(seed)
    model, began = build(wanted), time.process_time()
    optimize(model, wanted, seed, say)
    spent = time.process_time() - began
    vlm_files.write(stage, model, wanted.patch)
    score = exact_match(model.eval(), wanted, seed)
    found = Facts(score, round(spent, 1), sum(weight.numel() for weight in model.parameters()), seed)
    say(f"the small LLaVA is trained: {score:.3f} of {HELD_OUT} held-out pictures described right, {spent:.0f} CPU s")
    (stage / FACTS).write_text(json.dumps(asdict(found)), encoding="utf-8")


def optimize(model: Any, wanted: Shape, seed: int, say: Callable[[str], None]) -> None:
    """As LLaVA was made: first the vision tower learns to see by itself, then all of it to answer."""
    import torch

    tower = model.model.vision_tower
    sight = torch.nn.Linear(wanted.vision_hidden, len(scenes.THINGS) + 1)
    seeing = vlm_lessons.seen(wanted.patch, wanted.train_batch, seed)

    def vision_loss() -> Any:
        pixels, labels = next(seeing)
        told = sight(tower(pixels).last_hidden_state[:, 1:])
        return torch.nn.functional.cross_entropy(told.flatten(0, 1), labels.flatten())

    descend(vision_loss, [*tower.parameters(), *sight.parameters()], wanted, wanted.vision_steps, say)
    batches = vlm_lessons.taught(wanted.patch, wanted.train_batch, seed)
    descend(lambda: model(**next(batches)).loss, list(model.parameters()), wanted, wanted.train_steps, say)


def descend(
    loss_of: Callable[[], Any], weights: list[Any], wanted: Shape, steps: int, say: Callable[[str], None]
) -> None:
    import torch

    optimizer = torch.optim.AdamW(weights, lr=wanted.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, wanted.learning_rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        loss = loss_of()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            say(f"the small LLaVA: step {step} of {steps}, loss {loss.item():.3f}")


def exact_match(model: Any, wanted: Shape, seed: int) -> float:
    """Share of held-out pictures that greedy decoding describes word for word."""
    import torch

    shown = scenes.held_out(HELD_OUT, seed)
    asked = torch.tensor([vlm_files.prompt_ids(DESCRIBE, wanted.patch)] * len(shown))
    with torch.inference_mode():
        told = model.generate(
            input_ids=asked, pixel_values=vlm_files.pixels([example.picture for example in shown]),
            attention_mask=torch.ones_like(asked), max_new_tokens=12, do_sample=False,
        )  # fmt: skip
    texts = [vlm_files.text(answer.tolist()) for answer in told[:, asked.shape[1] :]]
    return sum(text == example.scene.caption for text, example in zip(texts, shown, strict=True)) / len(shown)
