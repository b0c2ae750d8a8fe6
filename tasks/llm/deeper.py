"""The same model, slower: identity layers on top, so that a target costs what a large one costs beside its draft.

Speculation gains what the target costs more than the draft; a target of four layers costs too little for that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tasks.models import cache, lm


def deeper(folder: Path, layers: int) -> Path:
    """A cached copy of a model made on the spot with `layers` layers; a hub's model, or fewer layers, as it is."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not (folder / lm.FACTS).exists() or layers <= config["num_hidden_layers"]:
        return folder
    name = f"deeper-{cache.key([str(folder.resolve()), layers], [lm, sys.modules[__name__]])}"
    return cache.obtain(name, lambda stage: grown(folder, layers, stage)) / "model"


def grown(folder: Path, layers: int, stage: Path) -> None:
    lm.deepened(folder, layers, stage / "model")
