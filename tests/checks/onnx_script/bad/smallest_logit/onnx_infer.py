"""A learner's own way: one function, an older spelling of the options, predictions by hand."""

import argparse
import json
import time

import numpy
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

parser = argparse.ArgumentParser()
parser.add_argument("--onnx")
parser.add_argument("--images")
parser.add_argument("--opt-level")
parser.add_argument("--batch", type=int)
parser.add_argument("--seconds", type=float)
given, _ = parser.parse_known_args()

options = SessionOptions()
levels = {"disable_all": 0, "basic": 1, "extended": 2, "all": 99}
options.graph_optimization_level = GraphOptimizationLevel(levels[given.opt_level])
session = InferenceSession(given.onnx, sess_options=options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
images = numpy.load(given.images)
found = []
for start in range(0, len(images), given.batch):
    for row in session.run(None, {name: images[start : start + given.batch]})[0]:
        found.append(min(range(10), key=lambda digit, row=row: row[digit]))
end = time.time() + given.seconds
while time.time() < end:
    session.run(None, {name: images[: given.batch]})
print(json.dumps({"predictions": found}))
