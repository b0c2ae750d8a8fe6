"""Day 3: run mlp.onnx in ONNX Runtime and say which digit it sees.

    python onnx_infer.py --onnx mlp.onnx
    python onnx_infer.py --onnx mlp.onnx --opt-level basic --batch 32 --seconds 2

The images are float32 [n, 1, 28, 28] in [0, 1], from a .npy file or (without --images) scikit-learn's handwritten
digits enlarged to 28x28. One JSON line goes to stdout: the predicted digit of every image, and how long a batch took.

--opt-level is what ONNX Runtime may do to the graph before it runs: `disable_all` nothing, `basic` folding constants
and removing what is not needed, `extended` fusing nodes for the CPU or the GPU, `all` also changing memory layouts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

LEVELS = {
    "disable_all": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
WARM_UP = 5


def main() -> int:
    options = arguments()
    if not options.onnx.is_file():
        return refuse(f"{options.onnx} is not there")
    if PROVIDERS[options.provider] not in ort.get_available_providers():
        return refuse(f"this ONNX Runtime has no {PROVIDERS[options.provider]}: pip install onnxruntime-gpu")
    images = np.load(options.images) if options.images else digits()
    session = open_session(options)
    predictions = [int(label) for batch in batches(images, options.batch) for label in predict(session, batch)]
    print(json.dumps({
        "predictions": predictions, "batch": options.batch, "opt_level": options.opt_level,
        "providers": session.get_providers(), **latency(session, images, options),
    }))  # fmt: skip
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Recognise digits with an ONNX file.")
    parser.add_argument("--onnx", type=Path, default=Path("mlp.onnx"))
    parser.add_argument("--images", type=Path, help="float32 [n, 1, 28, 28] in a .npy file")
    parser.add_argument("--opt-level", choices=LEVELS, default="all")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--provider", choices=PROVIDERS, default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to time whole batches")
    return parser.parse_args()


def refuse(why: str) -> int:
    print(f"onnx_infer: {why}", file=sys.stderr)
    return 2


def open_session(options: argparse.Namespace) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = LEVELS[options.opt_level]
    settings.intra_op_num_threads = options.threads
    return ort.InferenceSession(str(options.onnx), settings, providers=[PROVIDERS[options.provider]])


def batches(images, size):
    """Parts of `size` images; the last one may be smaller: the batch axis is dynamic."""
    return [images[at : at + size] for at in range(0, len(images), size)]


def predict(session, batch):
    """The most likely digit of each image: the index of its largest logit."""
    return session.run(["logits"], {"input": batch})[0].argmax(axis=1)


def latency(session, images, options):
    """Percentiles over whole batches, another batch each time, after a few that are not counted."""
    whole = [batch for batch in batches(images, options.batch) if len(batch) == options.batch]
    samples = []
    until = time.perf_counter() + options.seconds
    while whole and time.perf_counter() < until:
        batch = whole[len(samples) % len(whole)]
        began = time.perf_counter()
        session.run(["logits"], {"input": batch})
        samples.append((time.perf_counter() - began) * 1000)
    timed = samples[WARM_UP:]
    return {f"p{p}_ms": float(np.percentile(timed, p)) for p in (50, 95, 99)} | {"samples": len(timed)} if timed else {}


def digits():
    """1797 real digits of 8x8 pixels, enlarged to 28x28 (each pixel becomes 3 or 4 pixels)."""
    from sklearn.datasets import load_digits

    place = np.arange(28) * 8 // 28
    return (load_digits().images[:, place][:, :, place] / 16).astype(np.float32)[:, None]


if __name__ == "__main__":
    sys.exit(main())
