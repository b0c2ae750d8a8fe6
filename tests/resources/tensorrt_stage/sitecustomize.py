"""Gives the engines host memory instead of a GPU's, in every process of a test that rehearses TensorRT."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

from tasks.engines import cuda

MODELS = ["GPU of one model", "GPU of another model"]
current = [0]


def place(array):
    import torch

    return torch.from_numpy(array.copy())


def empty(shape):
    import torch

    return torch.empty(shape)


def on(index):
    current[0] = index
    return nullcontext()


if any(word.endswith("tensorrt_infer.py") for word in sys.orig_argv):  # a day's script takes its GPU memory from torch
    sys.path.insert(0, str(Path(cuda.__file__).parents[1] / "checks/tensorrt_rehearsal"))
cuda.place, cuda.empty, cuda.on = place, empty, on
cuda.stream = lambda: SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
cuda.name = lambda: MODELS[current[0]]
cuda.other_model = lambda index: 1
