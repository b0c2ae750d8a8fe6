"""Day 4: recognise digits with a serialized TensorRT engine.

    python tensorrt_infer.py --engine mlp_fp16.engine
    python tensorrt_infer.py --engine mlp_int8.engine --images digits.npy --batch 32 --logits logits.npy

The images are float32 [n, 1, 28, 28] in [0, 1], from a .npy file or (without --images) scikit-learn's handwritten
digits enlarged to 28x28. One JSON line goes to stdout: the predicted digit of every image, and how long a batch took.

An engine is a binary for one GPU model and one TensorRT version. To run it: deserialize it, make an execution context
(it holds the activations), tell it the shape of this batch and where the tensors are on the GPU, and enqueue it on a
stream. The engine's own shapes come from its optimization profile: a batch outside of it is refused.

Needs TensorRT 10 or 11, torch with CUDA (for GPU memory) and an NVIDIA GPU. Without them it ends with status 3.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

NO_TENSORRT, NO_ENGINE = 3, 2
INPUT, OUTPUT = "input", "logits"
WARM_UP, RUNS = 10, 100


def main() -> int:
    options = arguments()
    try:
        import tensorrt as trt
    except ImportError as error:
        return refuse(NO_TENSORRT, f"TensorRT is not installed ({error}); get it with: pip install tensorrt")
    import torch

    if not torch.cuda.is_available():
        return refuse(NO_TENSORRT, "TensorRT runs its engines on an NVIDIA GPU, and there is none here")
    if not options.engine.is_file():
        return refuse(NO_ENGINE, f"{options.engine} is not there: build it first")
    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(options.engine.read_bytes())
    if engine is None:
        return refuse(NO_ENGINE, f"{options.engine} is no engine for this GPU and TensorRT {trt.__version__}")
    largest = engine.get_tensor_profile_shape(INPUT, 0)[2][0]
    if options.batch > largest:
        return refuse(NO_ENGINE, f"the engine's profile ends at batch {largest}, {options.batch} was asked for")
    images = np.load(options.images) if options.images else digits()
    call = runner(trt, torch, engine)
    logits = np.concatenate([call(images[at : at + options.batch]) for at in range(0, len(images), options.batch)])
    if options.logits:
        np.save(options.logits, logits)
    answer = {"predictions": logits.argmax(axis=1).tolist(), "batch": options.batch, "engine": options.engine.name}
    print(json.dumps({**answer, **latency(call, images, options.batch)}))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Recognise digits with a TensorRT engine.")
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--images", type=Path, help="float32 [n, 1, 28, 28] in a .npy file")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--logits", type=Path, help="where to write the logits, float32 [n, 10], as .npy")
    return parser.parse_args()


def refuse(status: int, why: str) -> int:
    print(f"tensorrt_infer: {why}", file=sys.stderr)
    return status


def runner(trt, torch, engine):
    """A function from images to logits, both numpy arrays; copies to the GPU and back are part of a request."""
    context = engine.create_execution_context()
    stream = torch.cuda.Stream()

    def call(batch):
        given = torch.from_numpy(np.ascontiguousarray(batch)).cuda()
        if not context.set_input_shape(INPUT, tuple(given.shape)):
            raise RuntimeError(f"a batch of shape {tuple(given.shape)} is outside the engine's profile")
        logits = torch.empty(tuple(context.get_tensor_shape(OUTPUT)), dtype=torch.float32, device="cuda")
        context.set_tensor_address(INPUT, given.data_ptr())
        context.set_tensor_address(OUTPUT, logits.data_ptr())
        torch.cuda.synchronize()  # the copy above went over another stream
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT could not run the engine; its log above says why")
        stream.synchronize()
        return logits.cpu().numpy()

    return call


def latency(call, images, size):
    """Percentiles over whole batches, another batch each time, after a few that are not counted."""
    samples = []
    for turn in range(WARM_UP + RUNS):
        batch = np.take(images, range(turn * size, turn * size + size), axis=0, mode="wrap")
        began = time.perf_counter()
        call(batch)
        samples.append((time.perf_counter() - began) * 1000)
    return {f"p{p}_ms": float(np.percentile(samples[WARM_UP:], p)) for p in (50, 95, 99)} | {"samples": RUNS}


def digits():
    """1797 real digits of 8x8 pixels, enlarged to 28x28 (each pixel becomes 3 or 4 pixels)."""
    from sklearn.datasets import load_digits

    place = np.arange(28) * 8 // 28
    return (load_digits().images[:, place][:, :, place] / 16).astype(np.float32)[:, None]


if __name__ == "__main__":
    sys.exit(main())
