"""Run the kind engine_build with the backend TensorRT on a tiny BERT: `drive.py <folder> <params> <points>`."""

import json
import sys
from pathlib import Path

from tasks import api
from tasks.engines import build

ENCODER = {"layers": 1, "hidden": 16, "heads": 2, "intermediate": 32, "vocab": 128, "train_steps": 2}

folder, params, points = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
for name in ("day", "out", "scratch"):
    (folder / name).mkdir(exist_ok=True)
context = api.Context(
    day=folder / "day", out=folder / "out", scratch=folder / "scratch", settings={"model": {"encoder": ENCODER}},
    points=[build.Point.model_validate(point) for point in points], backend="TensorRT", spec="rehearsal",
)  # fmt: skip
build.run(build.Params.model_validate(params), context)
