"""The same model, slower: identity layers on top, so that a target costs what a large one costs beside its draft.

A layer whose two output projections are zero adds nothing to the residual stream: every output stays the same, bit by
bit, while its time is spent. Speculation gains what the target costs more than the draft; a target of four layers
costs too little for that.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from tasks.models import cache, lm

LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)$")
SILENT = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def deeper(folder: Path, layers: int) -> Path:
    """A cached copy of a model made on the spot with `layers` layers; a hub's model, or fewer layers, as it is."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not (folder / lm.FACTS).exists() or layers <= config["num_hidden_layers"]:
        return folder
    name = f"deeper-{cache.key([str(folder.resolve()), layers], [sys.modules[__name__]])}"
    return cache.obtain(name, lambda stage: make(folder, layers, stage))


def make(folder: Path, layers: int, stage: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, stage, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    own = config["num_hidden_layers"]
    weights = load_file(folder / "model.safetensors")
    for name, tensor in list(weights.items()):
        found = LAYER.match(name)
        for layer in range(own, layers) if found else ():
            if found and layer % own == int(found[1]):
                silent = found[2] in SILENT
                weights[f"model.layers.{layer}.{found[2]}"] = (
                    tensor.new_zeros(tensor.shape) if silent else tensor.clone()
                )
    save_file(weights, stage / "model.safetensors", metadata={"format": "pt"})
    config["num_hidden_layers"] = layers
    if config.get("layer_types"):
        config["layer_types"] = [config["layer_types"][layer % own] for layer in range(layers)]
    (stage / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
