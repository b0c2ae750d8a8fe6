"""Which of the known language models fit a card, at which precision and with how long a context."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from runner import groups
from runner.preflight import Machine
from tasks.models import fit
from tasks.models.shape import Shape

CARD_GB = 8.0  # the card that the curriculum's source asks about: shown where there is no GPU


def examine(root: Path, machine: Machine, card_gb: float | None = None) -> dict[str, Any]:
    """`{card, memory_gb, models: {name: {precision: longest context in tokens, 0 when it does not fit}}}`.

    `card_gb` asks about a card that is not here; otherwise it is this machine's largest GPU.
    """
    gpus = [float(size[1]) for gpu in machine.gpus if (size := re.search(r"([\d.]+) GiB", gpu))]
    asked = card_gb or (max(gpus) if gpus else CARD_GB)
    card = f"a card of {asked:g} GB" if card_gb or not gpus else machine.gpus[gpus.index(asked)]
    found = {
        name: {precision: fit.longest_context(shape, asked * fit.GIB, precision) for precision in fit.SERVED}
        for name, shape in shapes(root).items()
    }
    return {"card": card, "memory_gb": asked, "models": found}


def shapes(root: Path) -> dict[str, Shape]:
    """The hub's models of conf/model that tell their shape, smallest first."""
    parts = {name: model.get("lm") or {} for name, model in groups.models(root).items()}
    found = {name: Shape.model_validate(dict(part["shape"])) for name, part in parts.items() if "shape" in part}
    return dict(sorted(found.items(), key=lambda each: each[1].parameters))


def lines(found: dict[str, Any]) -> list[str]:
    """The answer for a person: a line for each model."""
    said = [f"language models on {found['card']}: longest context of one request, in tokens"]
    wide = max(map(len, found["models"]), default=0)
    for name, contexts in found["models"].items():
        each = (f"{precision} {f'{context:,}' if context else '–':>7}" for precision, context in contexts.items())
        said.append(f"  {name:<{wide}}  {'   '.join(each)}")
    return said
