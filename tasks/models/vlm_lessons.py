"""What the tiny LLaVA is taught, in batches: which thing covers which patch, then questions and answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

from tasks.models import scenes, vlm_files
from tasks.models.scenes import Place
from tasks.models.vlm_files import Question

IGNORED = -100  # a label that torch's cross entropy passes over
NOISE, TINT = 0.06, 0.1  # of pixels in [-1, 1]: painted pictures are not as clean as drawn ones
DESCRIBED = 0.7  # this share of the questions wants a description


def seen(patch: int, batch: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """Batches of pictures, and for each patch which thing covers it (or none): int64 [batch, patches]."""
    import torch

    drawn = scenes.examples(scenes.TAUGHT, random.Random(f"seen {seed}"))
    while True:
        shown = [next(drawn) for _ in range(batch)]
        labels = torch.tensor([covering(example.places, patch) for example in shown])
        yield varied([example.picture for example in shown]), labels


def varied(pictures: list[Any]) -> Any:
    """The pictures as the model gets them, each a little tinted and noisy."""
    import torch

    clean = vlm_files.pixels(pictures)
    tint = TINT * (2 * torch.rand(len(pictures), 3, 1, 1) - 1)
    return clean + tint + NOISE * torch.rand(len(pictures), 1, 1, 1) * torch.randn_like(clean)


def covering(places: tuple[Place, ...], patch: int) -> list[int]:
    """For each patch the number of the thing that covers its centre, nearly; one past the last for none."""
    found = []
    centres = [patch * (index + 0.5) for index in range(scenes.SIDE // patch)]
    for y, x in product(centres, centres):
        near = [place for place in places if max(abs(place.x - x), abs(place.y - y)) < place.radius + patch / 4]
        best = min(near, key=lambda place: (place.x - x) ** 2 + (place.y - y) ** 2, default=None)
        found.append(scenes.THINGS.index(best.thing) if best else len(scenes.THINGS))
    return found


def taught(patch: int, batch: int, seed: int) -> Iterator[dict[str, Any]]:
    """Batches of pictures, questions and answers; only the answers are learnt."""
    import torch

    rng = random.Random(f"taught {seed}")
    drawn = scenes.examples(scenes.TAUGHT, rng)
    while True:
        shown, rows = [], []
        for _ in range(batch):
            example = next(drawn)
            shown.append(example.picture)
            asked = vlm_files.questions(example.scene)
            rows.append(row(asked[0] if rng.random() < DESCRIBED else rng.choice(asked), patch))
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([ids + [vlm_files.PAD] * (width - len(ids)) for ids, _ in rows])
        labels = torch.tensor([
            [IGNORED] * start + ids[start:] + [IGNORED] * (width - len(ids)) for ids, start in rows
        ])  # fmt: skip
        yield {
            "input_ids": ids, "attention_mask": (ids != vlm_files.PAD).long(), "labels": labels,
            "pixel_values": varied(shown),
        }  # fmt: skip


def row(question: Question, patch: int) -> tuple[list[int], int]:
    """Token ids of prompt and answer, and where the answer starts."""
    asked = vlm_files.prompt_ids(question.prompt, patch)
    return asked + vlm_files.ids(question.answer) + [vlm_files.EOS], len(asked)
