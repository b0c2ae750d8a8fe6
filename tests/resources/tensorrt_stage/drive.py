"""Run a kind with the backend TensorRT on the stage: `drive.py <folder> <kind> <params> <points>`."""

import json
import sys
from pathlib import Path

from tasks import api, catalog

ENCODER = {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 32, "vocab": 128, "train_steps": 2}

folder, kind, params, points = Path(sys.argv[1]), catalog.KINDS[sys.argv[2]], *map(json.loads, sys.argv[3:])
for name in ("day", "out", "scratch"):
    (folder / name).mkdir(exist_ok=True)
context = api.Context(
    day=folder / "day", out=folder / "out", scratch=folder / "scratch", settings={"model": {"encoder": ENCODER}},
    points=[kind.Point.model_validate(point) for point in points], backend="TensorRT", spec="rehearsal",
)  # fmt: skip
kind.run(kind.Params.model_validate(params), context)
