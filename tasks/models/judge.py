"""A small network that names the colour and the shape in a picture of one thing: it scores what a generator paints."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tasks.models import cache, scenes
from tasks.models.scenes import ALONE, SHAPES, SIDE, Thing

STEPS, BATCH, RATE = 250, 64, 0.004
NOISE = 0.12  # standard deviation, of pixels in [-1, 1]: generated pictures are not as clean as drawn ones
TEST = 320
WEIGHTS, FACTS = "model.safetensors", "facts.json"
PROMPTS = tuple(scene.caption for scene in ALONE)

Judge = Callable[[Any], list[str]]  # uint8 [n, SIDE, SIDE, 3] -> what each picture shows, one of PROMPTS


def load(seed: int, say: Callable[[str], None] = print) -> tuple[Judge, float]:
    """The trained judge, and its own accuracy on fresh drawn pictures (share)."""
    from safetensors.torch import load_file

    name = f"judge-{cache.key([seed], [sys.modules[__name__], scenes])}"
    home = cache.obtain(name, lambda stage: train(stage, seed, say))
    network = build()
    network.load_state_dict(load_file(home / WEIGHTS))
    facts = json.loads((home / FACTS).read_text(encoding="utf-8"))
    return named_by(network.eval()), float(facts["accuracy"])


def build() -> Any:
    """Logits of the colours, then of the shapes."""
    from torch import nn

    def block(given: int, made: int) -> list[Any]:
        return [nn.Conv2d(given, made, 3, 2, 1), nn.BatchNorm2d(made), nn.ReLU()]

    answers = len(scenes.COLOURS) + len(SHAPES)
    return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 32), nn.Flatten(), nn.Linear(32 * 16, answers))


def train(stage: Path, seed: int, say: Callable[[str], None]) -> None:
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)  # two spinning threads are far slower than one on a busy two-core box
    torch.manual_seed(seed)
    network, drawn = build(), scenes.examples(ALONE, random.Random(f"judge {seed}"))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        shown = [next(drawn) for _ in range(BATCH)]
        seen = pixels([example.picture for example in shown])
        logits = network(seen + NOISE * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(seen))
        loss = sum(
            torch.nn.functional.cross_entropy(part, torch.tensor(labels))
            for part, labels in zip(split(logits), answers([example.scene.first for example in shown]), strict=True)
        )
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
    unseen = scenes.examples(ALONE, random.Random(f"judged {seed}"))
    fresh = [next(unseen) for _ in range(TEST)]
    told = named_by(network.eval())(numbers([example.picture for example in fresh]))
    accuracy = sum(said == example.scene.caption for said, example in zip(told, fresh, strict=True)) / TEST
    say(f"the judge names {accuracy:.3f} of {TEST} fresh drawn pictures right")
    save_file(network.state_dict(), stage / WEIGHTS)
    (stage / FACTS).write_text(json.dumps({"accuracy": accuracy}), encoding="utf-8")


def split(logits: Any) -> tuple[Any, Any]:
    return logits[:, : len(scenes.COLOURS)], logits[:, len(scenes.COLOURS) :]


def answers(things: Sequence[Thing]) -> tuple[list[int], list[int]]:
    """Indices of the colours and of the shapes."""
    return [list(scenes.COLOURS).index(each.colour) for each in things], [SHAPES.index(each.shape) for each in things]


def numbers(pictures: Sequence[Any]) -> Any:
    import numpy

    return numpy.stack(pictures)


def pixels(pictures: Sequence[Any]) -> Any:
    """uint8 [n] x [SIDE, SIDE, 3] as float32 [n, 3, SIDE, SIDE] in [-1, 1]."""
    import torch

    return torch.from_numpy(numbers(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def named_by(network: Any) -> Judge:
    import torch

    def named(pictures: Any) -> list[str]:
        if pictures.shape[1:] != (SIDE, SIDE, 3):
            raise ValueError(f"pictures of shape {pictures.shape}, not [n, {SIDE}, {SIDE}, 3]")
        with torch.inference_mode():
            colours, shapes = (part.argmax(-1).tolist() for part in split(network(pixels(list(pictures)))))
        return [str(Thing(list(scenes.COLOURS)[c], SHAPES[s])) for c, s in zip(colours, shapes, strict=True)]

    return named
